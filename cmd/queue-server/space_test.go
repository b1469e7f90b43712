package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal/disk"
	"github.com/replyq/replyq/server"
)

// room is a store whose disk a test fills.
type room struct {
	mu    sync.Mutex
	space disk.Space
	err   error
}

func (r *room) Space() (disk.Space, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.space, r.err
}

func (*room) Stats() disk.Stats { return disk.Stats{} }

func (r *room) set(free uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.space.Free, r.err = free, err
}

// TestSpaceWatch: a disk that fills is noticed at once, and so is room; in between nothing goes to and fro.
func TestSpaceWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Open(broker.Config{})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.New(server.Config{Broker: b, Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		r := &room{space: disk.Space{Free: 100, Total: 1000, Store: 7}}
		w := newSpaceWatch(r, 64, slog.New(slog.NewTextHandler(&log, nil)))
		w.start(b, s)
		c := b.Attach(broker.Identity{Tenant: 1}, broker.SessionOptions{})
		op := uint64(0)
		takes := func() bool {
			op++
			c.Submit([]broker.Op{{ID: op, Request: &broker.OpenPipe{}}})
			<-c.Ready()
			refused, ok := c.Take(nil)[0].Body.(*broker.Error)
			if ok && refused.Reason != broker.ReasonDiskFull {
				t.Errorf("OpenPipe = %v, want DISK_FULL", refused)
			}
			return !ok
		}
		for _, step := range []struct {
			free uint64
			err  error
			want bool
		}{
			{64, nil, true}, {63, nil, false}, {67, nil, false}, {200, errors.New("who knows"), false}, {68, nil, true}, {0, nil, false}, {500, nil, true},
		} {
			r.set(step.free, step.err)
			<-time.After(spaceEvery)
			synctest.Wait()
			if got := takes(); got != step.want {
				t.Errorf("with %d bytes free of which 64 are wanted (%v) it takes messages: %v, want %v", step.free, step.err, got, step.want)
			}
			if f := w.figures(t.Context()); f.NearlyFull == step.want || f.WantsFree != 64 || f.Store != 7 {
				t.Errorf("figures with %d bytes free: %+v", step.free, f)
			}
		}
		if full, again := strings.Count(log.String(), "nearly full"), strings.Count(log.String(), "has room again"); full != 2 || again != 2 {
			t.Errorf("log tells %d times that it is full and %d times that it is not, want 2 each:\n%s", full, again, log.String())
		}
		w.close()
		c.Close()
		s.Shutdown(t.Context())
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSpaceMark: how much room is wanted where nobody says.
func TestSpaceMark(t *testing.T) {
	for _, row := range []struct{ total, want uint64 }{
		{1 << 20, 128 << 20}, {10 << 30, 512 << 20}, {1 << 40, 2 << 30},
	} {
		if got := newSpaceWatch(nil, 0, nil).mark(disk.Space{Total: row.total}); got != row.want {
			t.Errorf("of %d bytes %d are wanted free, want %d", row.total, got, row.want)
		}
	}
}

// TestProgress: once a second it is told how far something has come.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := newProgress(slog.New(slog.NewTextHandler(&log, nil)), "restoring", 1000)
		for i := range uint64(31) {
			p.tell(i*40, slog.Int("messages", int(i)))
			<-time.After(100 * time.Millisecond)
		}
		var got []string
		for line := range strings.Lines(log.String()) {
			_, text, _ := strings.Cut(line, "msg=")
			got = append(got, strings.TrimSpace(text))
		}
		want := "restoring bytes=400 of=1000 messages=10; restoring bytes=800 of=1000 messages=20; restoring bytes=1200 of=1200 messages=30"
		if strings.Join(got, "; ") != want {
			t.Errorf("log = %q, want %q", got, want)
		}
	})
}
