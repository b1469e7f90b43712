package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
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

// TestMessageIDsAreNewAfterALoss: a journal that has lost its end gives no id again that was told.
func TestMessageIDsAreNewAfterALoss(t *testing.T) {
	const messages = 10
	whole := &journal.Memory{}
	cfg := broker.Config{Store: 5, Journal: func(uint16) (journal.Journal, error) { return keptOpen{whole}, nil }}
	told := make(map[broker.MessageID]bool)
	enqueue := func(t *testing.T, b *bed) {
		p := b.attach(fmt.Sprintf("one that has told %d", len(told)))
		for range messages {
			id := expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q"})).Message
			if told[id] {
				t.Errorf("the id %v is told twice", id)
			}
			told[id] = true
		}
	}
	inBed(t, cfg, enqueue)
	cut, last := &journal.Memory{}, journal.Position(0)
	for r, err := range whole.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = r.Position
	}
	for r, err := range whole.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Position <= last-messages/2 {
			if _, err := cut.Append(t.Context(), r.Batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	whole = cut
	inBed(t, cfg, enqueue)
	if len(told) != 2*messages {
		t.Errorf("%d ids for %d messages", len(told), 2*messages)
	}
}
