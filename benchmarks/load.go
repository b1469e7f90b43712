package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A load is one measurement in the caller's process. In a closed load so many requests are in flight for so long, a new
// one for each that is answered. In an open one requests come at a fixed rate, as long as slots are free to make them.
// After its time nothing new begins, and what is in flight is awaited: nothing may be missing.
type load struct {
	slots []*slot
	began time.Time
	until time.Duration // after began
	pace  *pace         // nil in a closed load

	left   atomic.Int64 // slots that have not come to rest
	rested chan struct{}

	failing sync.Once
	failed  chan struct{}
	err     error
}

// begin makes a load of slots that are at rest. A rate of 0 makes a closed one.
func begin(slots []*slot, until time.Duration, rate int) *load {
	l := &load{slots: slots, until: until, rested: make(chan struct{}), failed: make(chan struct{})}
	l.left.Store(int64(len(slots)))
	for _, s := range slots {
		s.begin(l)
	}
	l.began = time.Now()
	if rate > 0 {
		l.pace = newPace(l, rate)
	}
	return l
}

// rest says that a slot asks nothing more.
func (l *load) rest() {
	if l.left.Add(-1) == 0 {
		close(l.rested)
	}
}

// fail ends the load with an error; the first one counts.
func (l *load) fail(err error) {
	l.failing.Do(func() {
		l.err = err
		close(l.failed)
	})
}

// hasFailed reports whether the load was ended by an error.
func (l *load) hasFailed() bool {
	select {
	case <-l.failed:
		return true
	default:
		return false
	}
}

// patience is how long after a load's time the last answers may take.
const patience = 10 * time.Second

// wait waits until all slots are at rest.
func (l *load) wait() error {
	timer := time.NewTimer(l.until + patience)
	defer timer.Stop()
	select {
	case <-l.rested:
		return nil
	case <-l.failed:
		return l.err
	case <-timer.C:
		l.fail(fmt.Errorf("%d of %d requests had no answer for %v", l.left.Load(), len(l.slots), patience))
		return l.err
	}
}

// each runs a goroutine per slot that makes request after request. Only such loads can be open.
func (l *load) each(do func(ctx context.Context, s *slot) error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, s := range l.slots {
		wg.Go(func() {
			for more := l.due(s); more; more = s.finish() && l.due(s) {
				if err := do(ctx, s); err != nil {
					l.fail(err)
					return
				}
			}
		})
	}
	err := l.wait()
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	return err
}

// calls is each, for requests that have one answer.
func (l *load) calls(call func(ctx context.Context, s *slot, request []byte) ([]byte, error)) error {
	return l.each(func(ctx context.Context, s *slot) error {
		answer, err := call(ctx, s, s.next())
		if err != nil {
			return err
		}
		return s.check(answer)
	})
}

// split deals the slots out to n connections.
func (l *load) split(n int) [][]*slot {
	parts := make([][]*slot, n)
	for i, s := range l.slots {
		parts[i%n] = append(parts[i%n], s)
	}
	return parts
}

// A loadResult is what a load came to.
type loadResult struct {
	Operations int
	Elapsed    time.Duration // until the last answer
	P50, P99   time.Duration
	Trace      uint64 // the sum of the requests' traces
}

func (l *load) result() (loadResult, error) {
	var r loadResult
	var took []uint32
	for _, s := range l.slots {
		took = append(took, s.took...)
		r.Elapsed = max(r.Elapsed, s.ended)
		r.Trace += s.traces()
	}
	if len(took) == 0 {
		return r, errors.New("no request was answered")
	}
	slices.Sort(took)
	r.Operations = len(took)
	r.P50 = time.Duration(took[len(took)/2])
	r.P99 = time.Duration(took[len(took)*99/100])
	return r, nil
}
