package broker_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// What is numbered goes on after a restart, although the journal was trimmed of what had the numbers before.

// TestNumberOfADeletedQueueIsNotGivenTwice: after a restart no two queues have the number of one that was deleted before it.
func TestNumberOfADeletedQueueIsNotGivenTwice(t *testing.T) {
	j := &journal.Memory{}
	cfg := trimmed(j)
	var first *broker.Receipt
	inBed(t, cfg, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for _, queue := range []string{"kept", "churn"} { // with lower numbers
			expect[*broker.QueueList](p, p.do(&broker.CreateQueue{Queue: queue}))
		}
		first = p.enqueueWith("deleted", key("k", "m"))
		p.do(&broker.DeleteQueue{Queue: "deleted", Force: true})
		p.forget(j)
	})
	inBed(t, cfg, func(t *testing.T, b *bed) {
		p := b.attach("p2")
		second := p.enqueueWith("new", key("k", "m"))
		if second.Duplicate || second.Message == first.Message {
			t.Errorf("a message to a new queue is taken for one to a deleted queue: %+v", second)
		}
		<-time.After(2 * time.Hour) // numbers of deleted queues are given again by then
		if third := p.enqueueWith("newer", key("k", "m")); third.Duplicate {
			t.Errorf("a message to another new queue is taken for one to the first: %+v", third)
		}
		list := expect[*broker.QueueList](p, p.do(&broker.ListQueues{}))
		var names []string
		for _, q := range list.Queues {
			names = append(names, q.Name)
		}
		if want := []string{"churn", "kept", "new", "newer"}; !slices.Equal(names, want) {
			t.Errorf("the queues are %q, want %q", names, want)
		}
	})
}

// TestKeysAreNumberedOn: when all idempotency keys are forgotten, and the journal tells nothing of them, those to come are
// numbered on after a restart. Who has read the journal along since before it would take them for forgotten ones.
func TestKeysAreNumberedOn(t *testing.T) {
	j := &journal.Memory{}
	cfg := trimmed(j)
	along := broker.NewStandby(cfg.Store, 1)
	read := journal.Position(0)
	follow := func(t *testing.T) {
		t.Helper()
		records := func(yield func(journal.Record, error) bool) {
			for r, err := range j.Read(t.Context(), read) {
				read = r.Position + 1
				if !yield(r, err) {
					return
				}
			}
		}
		if err := along.Replay(0, records); err != nil {
			t.Fatal(err)
		}
	}
	inBed(t, cfg, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for id := range 9 {
			p.enqueueWith("q", key(string(rune('a'+id)), "m"))
		}
		synctest.Wait()
		follow(t)
		<-time.After(11 * time.Minute) // longer than keys are remembered
		p.forget(j)
		follow(t)
	})
	inBed(t, cfg, func(t *testing.T, b *bed) {
		b.attach("p2").enqueueWith("q", key("after", "m"))
		synctest.Wait()
		follow(t)
	})
	cfg.Standby = along
	inBed(t, cfg, func(t *testing.T, b *bed) {
		if r := b.attach("p3").enqueueWith("q", key("after", "m")); !r.Duplicate {
			t.Errorf("a key that was used before a take-over is not known after it: %+v", r)
		}
	})
}

// trimmed is a store whose journal has no more than it needs.
func trimmed(j *journal.Memory) broker.Config {
	return broker.Config{
		Store: 9, Shards: 1, JournalSlack: 1, Journal: func(uint16) (journal.Journal, error) { return keptOpen{j}, nil },
	}
}

// enqueueWith enqueues with an idempotency key.
func (c *client) enqueueWith(queue string, k *broker.Key) *broker.Receipt {
	c.t.Helper()
	return expect[*broker.Receipt](c, c.do(&broker.Enqueue{Queue: queue, Body: []byte("m"), Key: k}))
}

// forget has a journal trimmed of all that it has now, and takes the client's time: nothing else may happen.
func (c *client) forget(j *journal.Memory) {
	c.t.Helper()
	synctest.Wait()
	_, before := span(c.t, j)
	for range 10_000 {
		c.s.AnsweredBelow(c.op)
		c.enqueue("churn", handles.Handle{})
		synctest.Wait()
		if first, _ := span(c.t, j); first > before {
			return
		}
		c.removes(&broker.PurgeQueue{Queue: "churn"}, 1)
	}
	c.t.Fatal("the journal was not trimmed")
}

// span is the first and the last position that a journal has.
func span(t *testing.T, j journal.Journal) (first, last journal.Position) {
	t.Helper()
	for r, err := range j.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = r.Position
		}
		last = r.Position
	}
	return first, last
}
