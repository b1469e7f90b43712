package main

import (
	"runtime"
	"time"
)

// A pace hands out the times at which the requests of an open load are due, evenly spaced. Where all slots are busy,
// times wait for one; their requests count as begun all the same, so that a system that falls behind cannot hide it.
type pace struct {
	due chan time.Duration // after the load's begin; closed when its time is over
}

// newPace starts the goroutine of a load's pace. It ends with the load's time.
func newPace(l *load, rate int) *pace {
	interval := time.Second / time.Duration(rate)
	n := int(l.until / interval)
	p := &pace{due: make(chan time.Duration, n)}
	go func() {
		runtime.LockOSThread() // sleepUntil blocks it
		defer runtime.UnlockOSThread()
		defer close(p.due)
		for i := range n {
			at := time.Duration(i) * interval
			sleepUntil(l.began.Add(at))
			if l.hasFailed() {
				return
			}
			p.due <- at // there is room for all of them
		}
	}()
	return p
}

// due waits until the slot's next request is due and reports whether there is one; then the request's time begins. In a
// closed load it is due at once.
func (l *load) due(s *slot) bool {
	if l.pace == nil {
		return true
	}
	at, more := <-l.pace.due
	if !more {
		l.rest()
		return false
	}
	s.started = at
	return true
}
