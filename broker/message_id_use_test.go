package broker_test

import (
	"testing"
	"testing/synctest"

	"github.com/replyq/replyq/broker"
)

// TestMessageIDsAreNotUsedAgain: all messages lie in one slot or two, one after the other.
func TestMessageIDsAreNotUsedAgain(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p := b.attach("p")
		p.create("q", broker.QueueConfig{MaxLength: 1, DropOldest: true})
		seen := make(map[broker.MessageID]bool)
		ops := make([]broker.Op, 1000)
		for range 300 {
			for i := range ops {
				p.op++
				ops[i] = broker.Op{ID: p.op, Request: &broker.Enqueue{Queue: "q"}}
			}
			p.s.Submit(ops)
			synctest.Wait() // a journal may be in between
			for _, e := range p.s.Take(nil) {
				receipt, ok := e.Body.(*broker.Receipt)
				if !ok {
					t.Fatalf("got %T", e.Body)
				}
				id := receipt.Message
				if seen[id] {
					t.Fatalf("after %d messages, one has the id %v of an earlier one", len(seen), id)
				}
				seen[id] = true
			}
			p.s.AnsweredBelow(p.op + 1)
		}
		if len(seen) != 300*len(ops) {
			t.Fatalf("%d ids for %d messages", len(seen), 300*len(ops))
		}
	})
}
