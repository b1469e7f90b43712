package broker_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// What is repeated while a disk hangs.

// TestStallRepeatedWhileItLasts: what is repeated while the disk still hangs is neither refused as if it had not been
// carried out, nor carried out twice.
func TestStallRepeatedWhileItLasts(t *testing.T) {
	inStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		c := b.attach("c")
		d.Hang()
		op := broker.Op{ID: 1, Request: &broker.Enqueue{Queue: "q"}}
		c.s.Submit([]broker.Op{op})
		<-time.After(2 * time.Second)
		c.isCut(broker.ReasonJournalSlow)
		for range 3 {
			c = c.again("c", op)
			c.isCut(broker.ReasonJournalSlow)
			c.quiet(1)
		}
		d.GoOn()
		synctest.Wait()
		c = c.again("c", op)
		expect[*broker.Receipt](c, 1)
		c.op = 1
		if got := c.queue("q").Ready; got != 1 {
			t.Errorf("%d messages, want 1", got)
		}
	})
}

// TestStallElsewhereRepeated: what concerns several shards, was carried out, and is repeated while the disk of a shard hangs
// that has nothing to do with it, is not refused as if it had not been carried out.
func TestStallElsewhereRepeated(t *testing.T) {
	const shards = 5
	journals := make([]journal.Faulty, shards)
	cfg := broker.Config{Shards: shards, Journal: func(n uint16) (journal.Journal, error) { return journals[n].Open(n) }}
	inBed(t, cfg, func(t *testing.T, b *bed) {
		c := b.attach("c")
		queues, receives, sends := map[uint16]string{}, map[uint16]handles.Handle{}, map[uint16]handles.Handle{}
		for _, q := range manyQueues {
			opened := expect[*broker.PipeOpened](c, c.do(&broker.OpenPipe{Queue: q}))
			queues[opened.Send.Shard] = q
			sends[opened.Send.Shard], receives[opened.Send.Shard] = b.keys.Mint(opened.Send), b.keys.Mint(opened.Receive)
		}
		if len(queues) < 3 {
			t.Fatalf("queues are in the shards %v only", queues)
		}
		numbers := slices.Sorted(maps.Keys(queues))
		home, away, third := numbers[0], numbers[1], numbers[2]
		worker := b.attach("worker")
		take := worker.do(&broker.Consume{Queues: []string{queues[home]}, MaxInFlight: 9, LeaseTime: time.Hour})
		expect[*broker.Started](worker, take)
		lease := func() handles.Handle {
			c.enqueue(queues[home], handles.Handle{})
			return worker.delivered(take).lease
		}
		for _, test := range []struct {
			name    string
			request broker.Request
		}{
			{"message", &broker.Enqueue{Queue: queues[home], Cargo: broker.Cargo{Handles: []broker.NamedHandle{{Name: "h", Handle: receives[away]}}}}},
			{"reply", &broker.Reply{Handle: sends[away], Lease: lease(), More: true}},
			{"forward", &broker.Settle{Lease: lease(), Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: queues[away]}}}},
			{"forward there", &broker.Settle{Lease: lease(), Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: queues[third]}}}},
			{"answer", &broker.Reply{Handle: sends[away], Lease: lease(), Ack: true}},
		} {
			w := b.attach(test.name)
			op := broker.Op{ID: 1, Request: test.request}
			w.s.Submit([]broker.Op{op})
			first := w.next(1).Body
			if err, ok := first.(*broker.Error); ok {
				t.Fatalf("%s: %v", test.name, err)
			}
			w.s.Close()
			journals[third].Hang()
			c.do(&broker.Enqueue{Queue: queues[third]})
			<-time.After(2 * time.Second)
			c.isCut(broker.ReasonJournalSlow)
			w = w.again(test.name, op)
			w.quiet(1)
			w.isCut(broker.ReasonJournalSlow)
			w.s.Close()
			journals[third].GoOn()
			synctest.Wait()
			w = w.again(test.name, op)
			same := cmpopts.IgnoreFields(broker.Receipt{}, "Duplicate", "Consumers", "QueueCreated") // told once, or of now
			if diff := cmp.Diff(first, w.next(1).Body, same); diff != "" {
				t.Errorf("%s, repeated after the stall (-first +again):\n%s", test.name, diff)
			}
			w.s.Close()
			c.s.Close()
			c = b.attach("c, after " + test.name)
		}
	})
}
