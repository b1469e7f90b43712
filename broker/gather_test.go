package broker_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

// TestThoseWhoAreToldShareTheNextAppend: after an append of 4 ms that told 20, the next one begins when 20 have come again,
// or 1 ms later. After one that told few it begins at once.
func TestThoseWhoAreToldShareTheNextAppend(t *testing.T) {
	const slow = 4 * time.Millisecond
	for _, test := range []struct {
		name  string
		first int             // operations, at once
		then  []time.Duration // when others come, after the first were told
		again int             // how many each time
		want  time.Duration   // when the next append begins, after the first were told
		in    int             // how many appends there are
	}{
		{"all come", 20, []time.Duration{200 * time.Microsecond, 400 * time.Microsecond}, 10, 400 * time.Microsecond, 2},
		{"some come", 20, []time.Duration{200 * time.Microsecond, 400 * time.Microsecond}, 3, time.Millisecond, 2},
		{"late", 20, []time.Duration{2 * time.Millisecond}, 3, 2 * time.Millisecond, 2},
		{"few", 3, []time.Duration{200 * time.Microsecond}, 3, 200 * time.Microsecond, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var began []time.Time
				b, err := broker.Open(broker.Config{Journal: func(uint16) (journal.Journal, error) {
					return &journal.Memory{BeforeAppend: func([]byte) error {
						began = append(began, time.Now())
						time.Sleep(slow)
						return nil
					}}, nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				s := b.Attach(broker.Identity{Tenant: 1, TenantName: "default", Principal: "p"}, broker.SessionOptions{ID: []byte("a long name")})
				id := uint64(0)
				submit := func(n int) {
					var ops []broker.Op
					for range n {
						id++
						ops = append(ops, broker.Op{ID: id, Request: &broker.Enqueue{Queue: "q"}})
					}
					s.Submit(ops)
				}
				synctest.Wait()
				began = nil
				submit(test.first)
				time.Sleep(slow)
				synctest.Wait()
				told := time.Now()
				if n := len(s.Take(nil)); n != test.first {
					t.Errorf("%d were told, want %d", n, test.first)
				}
				for _, at := range test.then {
					time.Sleep(time.Until(told.Add(at)))
					submit(test.again)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if len(began) != test.in || began[1].Sub(told) != test.want {
					t.Errorf("appends began at %v after the first were told, want %d, and the second after %v",
						slices.Collect(since(told, began)), test.in, test.want)
				}
				if n := len(s.Take(nil)); n != len(test.then)*test.again {
					t.Errorf("%d were told in the end, want %d", n, len(test.then)*test.again)
				}
				s.Close()
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func since(start time.Time, at []time.Time) func(func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		for _, t := range at {
			if !yield(t.Sub(start)) {
				return
			}
		}
	}
}
