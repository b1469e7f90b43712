package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var testShape = shape{InFlight: 4, Connections: 1, Payload: 64}

// answered is the right answer to a request, after a while.
func answered(request []byte, after time.Duration) ([]byte, error) {
	<-time.After(after)
	return appendAnswer(nil, request)
}

func TestClosedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := newSlots(testShape)
		for range 2 { // slots are used again
			l := begin(slots, time.Second, 0)
			err := l.calls(func(_ context.Context, _ *slot, request []byte) ([]byte, error) {
				return answered(request, 10*time.Millisecond)
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.result()
			if err != nil {
				t.Fatal(err)
			}
			if r.Operations != 400 || r.Elapsed != time.Second || r.P50 != 10*time.Millisecond || r.P99 != 10*time.Millisecond {
				t.Errorf("result = %+v, want 400 operations of 10 ms in 1 s", r)
			}
		}
	})
}

func TestLoadFailsWithTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		var calls atomic.Int64
		err := begin(newSlots(testShape), time.Second, 0).calls(func(ctx context.Context, _ *slot, request []byte) ([]byte, error) {
			if calls.Add(1) == 50 {
				return nil, refused
			}
			if _, err := answered(request, time.Millisecond); err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return appendAnswer(nil, request)
		})
		if !errors.Is(err, refused) {
			t.Errorf("load = %v, want %v", err, refused)
		}
	})
}

func TestLoadFindsMissingAndRepeatedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := begin(newSlots(testShape), time.Second, 0).calls(func(ctx context.Context, s *slot, request []byte) ([]byte, error) {
			if s.sequence == 5 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return answered(request, time.Millisecond)
		})
		if err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("a load of which an answer is missing = %v", err)
		}
		var last []byte
		one := shape{InFlight: 1, Connections: 1, Payload: 64}
		err = begin(newSlots(one), time.Second, 0).calls(func(_ context.Context, s *slot, request []byte) ([]byte, error) {
			if s.sequence == 5 {
				return last, nil
			}
			var err error
			last, err = answered(request, time.Millisecond)
			return last, err
		})
		if err == nil || !strings.Contains(err.Error(), "number 4.0 where 5.0 is due") {
			t.Errorf("a load with a repeated answer = %v", err)
		}
	})
}

// A system that stands still for a while has to show it in the latencies of all the requests that were due meanwhile.
func TestOpenLoadCountsFromWhenRequestsAreDue(t *testing.T) {
	const rate, stall = 1000, 100 * time.Millisecond
	slots := newSlots(shape{InFlight: 1, Connections: 1, Payload: 64})
	l := begin(slots, 300*time.Millisecond, rate)
	var calls int
	err := l.calls(func(_ context.Context, _ *slot, request []byte) ([]byte, error) {
		if calls++; calls == 50 {
			<-time.After(stall)
		}
		return appendAnswer(nil, request)
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != 300 {
		t.Errorf("%d requests at 1000/s in 300 ms, want 300", calls)
	}
	took := slots[0].took
	for i := range took {
		// The stall's end, at the earliest, less when the request was due.
		least := stall - time.Duration(i-49)*time.Millisecond
		if i >= 49 && i < 149 && time.Duration(took[i]) < least {
			t.Errorf("request %d took %v, want at least %v, from when it was due", i, time.Duration(took[i]), least)
		}
	}
}

func TestWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := newSlots(shape{InFlight: 6, Connections: 3, Payload: 64})
		l := begin(slots, time.Second, 0)
		var byConnection [3]atomic.Int64
		err := windows(l, 3, func(i int, s *slot) (<-chan time.Time, error) {
			byConnection[i].Add(1)
			s.next()
			return time.After(10 * time.Millisecond), nil
		}, func(s *slot, timer <-chan time.Time) error {
			<-timer
			answer, err := appendAnswer(nil, s.request)
			if err != nil {
				return err
			}
			return s.check(answer)
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.result()
		if err != nil || r.Operations != 600 {
			t.Errorf("result = %+v, %v, want 600 operations", r, err)
		}
		for i := range byConnection {
			if n := byConnection[i].Load(); n != 200 {
				t.Errorf("connection %d made %d requests, want 200", i, n)
			}
		}
	})
}

func TestTracesTellWhichMessagesCame(t *testing.T) {
	slots := newSlots(testShape)
	begin(slots, time.Second, 0)
	var came, twice uint64
	for _, s := range slots {
		for range 3 {
			came += traceOf(s.next())
		}
	}
	twice = came - traceOf(slots[1].request) + traceOf(slots[2].request) // one lost, another repeated
	var want uint64
	for _, s := range slots {
		want += s.traces()
	}
	if came != want || twice == want {
		t.Errorf("traces are %x, want those of what came, %x, and not %x", want, came, twice)
	}
}

func TestPiecesAreAnsweredOnceEach(t *testing.T) {
	s := newSlots(shape{InFlight: 1, Connections: 1, Payload: 64, Answers: 3})[0]
	n := s.pieces()
	for _, i := range []int{2, 0, 1} {
		answer, err := appendAnswer(nil, s.piece(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.checkPiece(answer); err != nil {
			t.Errorf("checkPiece(%d of %d) = %v", i, n, err)
		}
		if s.checkPiece(answer) == nil {
			t.Errorf("piece %d may be answered twice", i)
		}
	}
}
