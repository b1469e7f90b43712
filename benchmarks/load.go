package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A load is one measurement in the caller's process: so many requests in flight for so long, a new one for each that is
// answered. After its time nothing new begins, and what is in flight is awaited: nothing may be missing.
type load struct {
	slots []*slot
	began time.Time
	until time.Duration // after began

	left   atomic.Int64 // slots that have not come to rest
	rested chan struct{}

	failing sync.Once
	failed  chan struct{}
	err     error
}

// A slot is one request in flight at a time. It belongs to one goroutine at a time.
type slot struct {
	load     *load
	number   int
	request  []byte
	sequence uint64
	started  time.Duration
	ended    time.Duration
	took     []uint32 // in nanoseconds, of this load's requests
}

func newSlots(n, payload int) []*slot {
	slots := make([]*slot, n)
	for i := range slots {
		slots[i] = &slot{number: i, request: newRequest(uint64(i), payload)} //nolint:gosec // small
	}
	return slots
}

// begin makes a load of slots that are at rest.
func begin(slots []*slot, until time.Duration) *load {
	l := &load{slots: slots, until: until, rested: make(chan struct{}), failed: make(chan struct{})}
	l.left.Store(int64(len(slots)))
	for _, s := range slots {
		s.load, s.took = l, s.took[:0]
		s.started, s.ended = 0, 0
	}
	l.began = time.Now()
	return l
}

// next is the slot's next request, which it keeps.
func (s *slot) next() []byte {
	s.sequence++
	binary.LittleEndian.PutUint64(s.request[sequenceAt:], s.sequence)
	return s.request
}

// answer takes the answer to the slot's request and reports whether another request is wanted. The end of one request
// counts as the beginning of the next, so that a request costs one look at the clock.
func (s *slot) answer(b []byte) (more bool) {
	now := time.Since(s.load.began)
	if err := checkAnswer(s.request, b); err != nil {
		s.load.fail(err)
		return false
	}
	s.took = append(s.took, uint32(min(now-s.started, 1<<32-1))) //nolint:gosec // bounded
	s.started, s.ended = now, now
	if now < s.load.until {
		return true
	}
	if s.load.left.Add(-1) == 0 {
		close(s.load.rested)
	}
	return false
}

// fail ends the load with an error; the first one counts.
func (l *load) fail(err error) {
	l.failing.Do(func() {
		l.err = err
		close(l.failed)
	})
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

// each runs a goroutine per slot that calls, awaits and calls again.
func (l *load) each(call func(ctx context.Context, s *slot, request []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, s := range l.slots {
		wg.Go(func() {
			for more := true; more; {
				b, err := call(ctx, s, s.next())
				if err != nil {
					l.fail(err)
					return
				}
				more = s.answer(b)
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
}

func (l *load) result() (loadResult, error) {
	var r loadResult
	var took []uint32
	for _, s := range l.slots {
		took = append(took, s.took...)
		r.Elapsed = max(r.Elapsed, s.ended)
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
