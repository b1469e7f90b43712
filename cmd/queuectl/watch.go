package main

import (
	"context"
	"os"
	"time"

	"github.com/replyq/replyq/handles"
)

// When a wait is told about: first after watchFirst, then every watchEvery.
const (
	watchFirst = time.Second
	watchEvery = 10 * time.Second
)

// talkative reports whether somebody is there to read what is waited for.
func (a *app) talkative() bool {
	if a.Verbose {
		return true
	}
	file, ok := a.std.err.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// watch tells what a wait is for once it gets long, until stop is called; stop may be called many times.
func (a *app) watch(what func(context.Context) string) (stop func()) {
	if !a.talkative() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(a.ctx)
	ended := make(chan struct{})
	go func() { // ends with stop, which waits for it
		defer close(ended)
		begin := time.Now()
		timer := time.NewTimer(watchFirst)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			if text := what(ctx); text != "" && ctx.Err() == nil {
				a.note("waiting for %s (%v so far)", text, time.Since(begin).Round(time.Second))
			}
			timer.Reset(watchEvery)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// why asks the server what a pipe waits for.
func (a *app) why(ctx context.Context, handle handles.Handle) string {
	ctx, cancel := context.WithTimeout(ctx, watchEvery/2)
	defer cancel()
	d, err := a.client.Describe(ctx, handle)
	if err != nil {
		return "the server: " + err.Error()
	}
	return "replies: " + d.GetSummary()
}
