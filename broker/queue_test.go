package broker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// create makes a queue with a configuration.
func (c *client) create(queue string, config broker.QueueConfig) {
	c.t.Helper()
	expect[*broker.QueueList](c, c.do(&broker.CreateQueue{Queue: queue, Config: config}))
}

func (c *client) update(queue string, config broker.QueueConfig, fields broker.ConfigFields) {
	c.t.Helper()
	expect[*broker.QueueList](c, c.do(&broker.UpdateQueue{Queue: queue, Config: config, Fields: fields}))
}

func (c *client) queue(name string) broker.QueueInfo {
	c.t.Helper()
	return expect[*broker.QueueList](c, c.do(&broker.ListQueues{Name: name})).Queues[0]
}

// removes checks how many messages an administrative operation removed.
func (c *client) removes(r broker.Request, want uint64) {
	c.t.Helper()
	if got := expect[*broker.Removed](c, c.do(r)); got.Messages != want {
		c.t.Fatalf("%T: %d messages, want %d", r, got.Messages, want)
	}
}

func TestQueueConfiguration(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		config := broker.QueueConfig{MaxLength: 7, LeaseTime: time.Minute, MaxFailures: 3, Backoff: time.Hour, MaxDead: 2}
		p.create("q", config)
		p.refused(p.do(&broker.CreateQueue{Queue: "q"}), broker.ReasonQueueExists, "name")
		config.MaxBackoff = time.Hour
		if got := p.queue("q").Config; got != config {
			t.Errorf("configuration: got %+v, want %+v", got, config)
		}
		p.update("q", broker.QueueConfig{LeaseTime: time.Hour, Paused: true, MaxLength: 99},
			broker.ConfigLeaseTime|broker.ConfigPaused|broker.ConfigMaxFailures)
		config.LeaseTime, config.Paused, config.MaxFailures = time.Hour, true, 20
		if got := p.queue("q").Config; got != config {
			t.Errorf("configuration after the update: got %+v, want %+v", got, config)
		}
		p.update("q", broker.QueueConfig{}, broker.ConfigAll)
		if got := p.queue("q").Config; got != (broker.QueueConfig{}).Effective() {
			t.Errorf("configuration without any: got %+v, want the defaults", got)
		}
		p.refused(p.do(&broker.UpdateQueue{Queue: "none"}), broker.ReasonQueueNotFound, "name")
	})
}

func TestPausedQueueKeepsItsMessages(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{Paused: true})
		op := w.consume("q")
		call, receipt := p.call("q", "m", broker.PipeOptions{})
		w.quiet(op)
		d := expect[*broker.Description](p, p.do(&broker.Describe{Handle: p.keys.Mint(receipt.Receive)}))
		if d.State != broker.WaitPaused {
			t.Errorf("describe: got state %d (%s), want paused", d.State, d.Summary)
		}
		p.update("q", broker.QueueConfig{}, broker.ConfigPaused)
		first := w.delivered(op)
		p.update("q", broker.QueueConfig{Paused: true}, broker.ConfigPaused)
		w.settle(first.Delivery, broker.Release)
		w.quiet(op)
		p.update("q", broker.QueueConfig{}, broker.ConfigPaused)
		w.settle(w.delivered(op).Delivery, broker.Ack)
		p.ends(call, broker.EndBroken)
	})
}

func TestQueueDefaults(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{DefaultExpiry: time.Minute, LeaseTime: 5 * time.Second, MaxFailures: 2})
		start := time.Now()
		call, _ := p.call("q", "m", broker.PipeOptions{})
		p.ends(call, broker.EndExpired)
		if since := time.Since(start); since < time.Minute || since > time.Minute+250*time.Millisecond {
			t.Errorf("expired after %v, want 1m", since)
		}
		own := p.do(&broker.Enqueue{Queue: "q", Expiry: time.Hour, Pipe: &broker.PipeOptions{Timeout: 2 * time.Hour}, Call: true})
		expect[*broker.Receipt](p, own)
		<-time.After(2 * time.Minute)
		op := w.consume("q")
		d := w.delivered(op)
		if left := time.Until(d.LeaseExpires.Std()); left != 5*time.Second {
			t.Errorf("lease: got %v, want the queue's 5s", left)
		}
		x := expect[*broker.Extended](w, w.do(&broker.ExtendLeases{Leases: []handles.Handle{d.lease}}))
		if left := time.Until(x.Leases[0].Expires.Std()); left != 5*time.Second {
			t.Errorf("extended lease: got %v, want the queue's 5s", left)
		}
		w.settle(d.Delivery, broker.Retry)
		if s := w.settle(w.delivered(op).Delivery, broker.Retry); !s.Dead {
			t.Error("the second failure of two did not make a dead message")
		}
		p.ends(own, broker.EndDeadLettered)
	})
}

func TestForwardedMessageTakesItsQueuesExpiry(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("next", broker.QueueConfig{DefaultExpiry: time.Minute})
		call, _ := p.call("q", "m", broker.PipeOptions{})
		d := w.delivered(w.consume("q"))
		expect[*broker.Settled](w, w.do(&broker.Settle{
			Lease: d.lease, Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: "next", ReplyTo: d.replyTo}},
		}))
		start := time.Now()
		p.ends(call, broker.EndExpired)
		if since := time.Since(start); since > 2*time.Minute {
			t.Errorf("expired after %v, want 1m", since)
		}
	})
}

func TestBackoffDoublesUpToItsLimit(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{Backoff: time.Second, MaxBackoff: 5 * time.Second})
		p.enqueue("q", handles.Handle{})
		op := w.consume("q")
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
			d, start := w.delivered(op), time.Now()
			w.settle(d.Delivery, broker.Retry)
			next := w.delivered(op)
			if held := time.Since(start); held < want || held > want+want/10+10*time.Millisecond {
				t.Errorf("after %d failures: held back %v, want %v and up to a tenth more", next.Failures, held, want)
			}
			w.settle(next.Delivery, broker.Release)
		}
		d, start := w.delivered(op), time.Now()
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Retry, Delay: broker.NoDelay}))
		w.delivered(op)
		if held := time.Since(start); held > 0 {
			t.Errorf("retried without a delay: held back %v", held)
		}
	})
}

func TestP20FullQueueRefuses(t *testing.T) {
	for name, config := range map[string]broker.QueueConfig{
		"length": {MaxLength: 3}, "bytes": {MaxBytes: 3},
	} {
		t.Run(name, func(t *testing.T) {
			eachPlacement(t, func(t *testing.T, b *bed) {
				p, w := b.attach("p"), b.attach("w")
				p.create("q", config)
				for range 3 {
					p.enqueue("q", handles.Handle{})
				}
				full := p.do(&broker.Enqueue{Queue: "q", Body: []byte("m"), Pipe: &broker.PipeOptions{}})
				err := expect[*broker.Error](p, full)
				if err.Reason != broker.ReasonQueueFull || err.Field != "queue" || err.RetryAfter == 0 {
					t.Errorf("enqueue into a full queue: got %v, retry after %v", err, err.RetryAfter)
				}
				op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
				expect[*broker.Started](w, op)
				d := w.delivered(op) // what is in flight does not wait
				p.enqueue("q", handles.Handle{})
				p.refused(p.do(&broker.Enqueue{Queue: "q", Body: []byte("m")}), broker.ReasonQueueFull, "queue")
				// What a Settle carries is stored all the same.
				settled := expect[*broker.Settled](w, w.do(&broker.Settle{
					Lease: d.lease, Action: broker.Release, Messages: []*broker.Enqueue{{Queue: "q", Body: []byte("m")}},
				}))
				if len(settled.Receipts) != 1 {
					t.Errorf("settle with a message: got %+v", settled)
				}
				if q := p.queue("q"); q.Ready+q.InFlight != 5 {
					t.Errorf("got %+v, want 5 messages", q)
				}
			})
		})
	}
}

func TestAMessageOverMaxBytesFitsIntoAnEmptyQueue(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		p.create("q", broker.QueueConfig{MaxBytes: 3})
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("long message")}))
		p.refused(p.do(&broker.Enqueue{Queue: "q"}), broker.ReasonQueueFull, "queue")
	})
}

func TestFullQueueDropsItsOldest(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.create("q", broker.QueueConfig{MaxLength: 2, DropOldest: true})
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		leased, _ := p.call("q", "leased", broker.PipeOptions{})
		d := w.delivered(op)
		late := p.do(&broker.Enqueue{Queue: "q", Delay: time.Minute, Pipe: &broker.PipeOptions{}, Call: true})
		expect[*broker.Receipt](p, late)
		first, _ := p.call("q", "first", broker.PipeOptions{})
		second, _ := p.call("q", "second", broker.PipeOptions{})
		p.ends(late, broker.EndDropped)
		p.call("q", "third", broker.PipeOptions{})
		p.ends(first, broker.EndDropped)
		p.quiet(second)
		p.quiet(leased)
		w.settle(d.Delivery, broker.Ack)
		if d = w.delivered(op); string(d.Body) != "second" {
			t.Errorf("delivered %q, want what was not dropped", d.Body)
		}
	})
}

func TestPurge(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		w.consume("dead")
		fill := func() (leased, ready, delayed uint64) {
			op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, MaxDeliveries: 1})
			expect[*broker.Started](w, op)
			leased, _ = p.call("q", "leased", broker.PipeOptions{})
			w.delivered(op)
			ready, _ = p.call("q", "ready", broker.PipeOptions{})
			delayed = p.do(&broker.Enqueue{Queue: "q", Delay: time.Minute, Pipe: &broker.PipeOptions{}, Call: true})
			expect[*broker.Receipt](p, delayed)
			return leased, ready, delayed
		}
		leased, ready, delayed := fill()
		other, _ := p.call("other", "m", broker.PipeOptions{})
		p.removes(&broker.PurgeQueue{Queue: "q", State: broker.MessageReady}, 1)
		p.ends(ready, broker.EndPurged)
		p.quiet(delayed)
		p.removes(&broker.PurgeQueue{Queue: "q", State: broker.MessageDelayed}, 1)
		p.ends(delayed, broker.EndPurged)
		p.quiet(leased)
		_, ready, delayed = fill()
		p.removes(&broker.PurgeQueue{Queue: "q"}, 2)
		p.ends(ready, broker.EndPurged)
		p.ends(delayed, broker.EndPurged)
		p.quiet(other)
		p.refused(p.do(&broker.PurgeQueue{Queue: "none"}), broker.ReasonQueueNotFound, "name")
	})
}

func TestPurgeOfDeadMessages(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.consume("q")
		for range 3 {
			p.enqueue("q", handles.Handle{})
			w.settle(w.delivered(op).Delivery, broker.Reject)
		}
		p.update("q", broker.QueueConfig{MaxDead: 2}, broker.ConfigMaxDead)
		if q := p.queue("q"); q.Dead != 2 {
			t.Errorf("got %d dead messages, want the 2 that the queue keeps", q.Dead)
		}
		p.removes(&broker.PurgeQueue{Queue: "q", State: broker.MessageDead}, 2)
		if q := p.queue("q"); q.Dead != 0 || q.Bytes != 0 {
			t.Errorf("after the purge: got %+v", q)
		}
	})
}

// TestPurgeLetsOthersIn purges more than one step does, and has others use the shard meanwhile.
func TestPurgeLetsOthersIn(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, other := b.attach("p"), b.attach("other")
		const n = 5000
		for range n {
			p.do(&broker.Enqueue{Queue: "q", Body: []byte("m")})
		}
		purge := p.do(&broker.PurgeQueue{Queue: "q"})
		again := p.do(&broker.PurgeQueue{Queue: "q"})
		if q := other.queue("q"); q.Ready == 0 || q.Ready == n {
			t.Errorf("during the purge %d messages are ready, want some gone and some left", q.Ready)
		}
		if got := expect[*broker.Removed](p, purge); got.Messages != n {
			t.Errorf("purged %d, want %d", got.Messages, n)
		}
		if got := expect[*broker.Removed](p, again); got.Messages != 0 {
			t.Errorf("the second purge removed %d, want 0", got.Messages)
		}
	})
}

func TestDeleteQueue(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w, two := b.attach("p"), b.attach("w"), b.attach("two")
		op := w.consume("q.a")
		both := two.do(&broker.Consume{Queues: []string{"q.a", "q.b"}, MaxInFlight: 1})
		expect[*broker.Started](two, both)
		held, _ := p.call("q.a", "held", broker.PipeOptions{})
		d := w.delivered(op)
		heldByTwo, _ := p.call("q.a", "held by two", broker.PipeOptions{})
		two.delivered(both)
		delayed := p.do(&broker.Enqueue{Queue: "q.a", Delay: time.Minute, Pipe: &broker.PipeOptions{}, Call: true})
		expect[*broker.Receipt](p, delayed)
		p.refused(p.do(&broker.DeleteQueue{Queue: "q.a"}), broker.ReasonQueueNotEmpty, "name")
		p.removes(&broker.DeleteQueue{Queue: "q.a", Force: true}, 3)
		for _, call := range []uint64{held, heldByTwo, delayed} {
			p.ends(call, broker.EndQueueDeleted)
		}
		expect[*broker.LeaseLost](w, op)
		w.refused(op, broker.ReasonQueueNotFound, "queues")
		w.refused(w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack}), broker.ReasonLeaseStale, "lease")
		p.refused(p.do(&broker.ListQueues{Name: "q.a"}), broker.ReasonQueueNotFound, "name")
		p.refused(p.do(&broker.DeleteQueue{Queue: "q.a"}), broker.ReasonQueueNotFound, "name")
		// A consumer of other queues goes on with those, and has room again.
		expect[*broker.LeaseLost](two, both)
		p.enqueue("q.b", handles.Handle{})
		if d := two.delivered(both); d.Queue != "q.b" {
			t.Errorf("delivered from %q, want q.b", d.Queue)
		}
		// The name can be used again, and is another queue.
		if r := p.enqueue("q.a", handles.Handle{}); !r.QueueCreated || r.Consumers != 0 {
			t.Errorf("enqueue into the deleted queue: got %+v, want a new one", r)
		}
	})
}

// TestConsumerOfSeveralQueuesThatAreDeleted ends when it has none left and holds nothing any more.
func TestConsumerOfSeveralQueuesThatAreDeleted(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		queues := []string{"a", "b", "c", "d"}
		op := w.do(&broker.Consume{Queues: queues, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		p.enqueue("d", handles.Handle{})
		d := w.delivered(op)
		for _, q := range queues[:3] {
			p.removes(&broker.DeleteQueue{Queue: q, Force: true}, 0)
		}
		w.quiet(op)
		w.settle(d.Delivery, broker.Release)
		w.delivered(op) // it goes on with what is left
		p.removes(&broker.DeleteQueue{Queue: "d", Force: true}, 1)
		expect[*broker.LeaseLost](w, op)
		w.refused(op, broker.ReasonQueueNotFound, "queues")
	})
}

// TestDeletedQueueOfAConsumerThatIsAway takes its deliveries away all the same.
func TestDeletedQueueOfAConsumerThatIsAway(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		consume := &broker.Consume{Queues: []string{"a", "b"}, MaxInFlight: 10, ConsumerID: "me", Grace: time.Minute}
		op := w.do(consume)
		expect[*broker.Started](w, op)
		call, _ := p.call("a", "m", broker.PipeOptions{})
		lost := w.delivered(op)
		p.enqueue("b", handles.Handle{})
		kept := w.delivered(op)
		w.s.Close()
		p.removes(&broker.DeleteQueue{Queue: "a", Force: true}, 1)
		p.ends(call, broker.EndQueueDeleted)
		w = b.attach("w")
		again := *consume
		again.Held = []handles.Handle{lost.lease, kept.lease}
		op = w.do(&again)
		if s := expect[*broker.Started](w, op); len(s.Created) != 1 || s.Created[0] != "a" {
			t.Errorf("started: got %+v, want a made again", s)
		}
		w.refused(w.do(&broker.Settle{Lease: lost.lease, Action: broker.Ack}), broker.ReasonLeaseStale, "lease")
		w.settle(kept.Delivery, broker.Ack)
		p.enqueue("a", handles.Handle{})
		w.delivered(op)
	})
}

func TestDeleteEmptyQueueNeedsNoForce(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for range 3 {
			p.create("q", broker.QueueConfig{MaxLength: 1})
			p.removes(&broker.DeleteQueue{Queue: "q"}, 0)
			<-time.After(2 * time.Hour) // its number is used again
		}
		p.create("q", broker.QueueConfig{})
		if q := p.queue("q"); q.Config != (broker.QueueConfig{}).Effective() {
			t.Errorf("got %+v, want nothing of the deleted queue's configuration", q.Config)
		}
	})
}

// TestDeletionGoesOnAfterARestart: a queue that had lost its name when the journal ended is cleared by the next broker.
func TestDeletionGoesOnAfterARestart(t *testing.T) {
	kept := &journal.Memory{}
	cfg := broker.Config{Store: 9, Shards: 1, Journal: func(uint16) (journal.Journal, error) { return kept, nil }}
	inBed(t, cfg, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for range 2000 {
			p.do(&broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{}})
		}
		synctest.Wait()
		appends := 0
		kept.BeforeAppend = func([]byte) error {
			if appends++; appends > 1 {
				return errors.New("the disk is full")
			}
			return nil
		}
		p.quiet(p.do(&broker.DeleteQueue{Queue: "q", Force: true})) // nobody learns of it: it was not kept to its end
	})
	copied := &journal.Memory{}
	for record, err := range kept.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := copied.Append(t.Context(), record.Batch); err != nil {
			t.Fatal(err)
		}
	}
	kept = copied
	before := factBytes(t, kept)
	inBed(t, cfg, func(t *testing.T, b *bed) {
		p := b.attach("another")
		p.refused(p.do(&broker.ListQueues{Name: "q"}), broker.ReasonQueueNotFound, "name")
		synctest.Wait()
		r := p.enqueue("q", handles.Handle{})
		if q := p.queue("q"); !r.QueueCreated || q.Ready != 1 || q.Waiters != 0 {
			t.Errorf("got %+v, want a new queue with one message", q)
		}
	})
	if more := factBytes(t, kept) - before; more < 1000*4 { // a message that goes leaves a fact
		t.Errorf("%d bytes of new facts: the deletion did not go on", more)
	}
}

func factBytes(t *testing.T, j *journal.Memory) (n int) {
	t.Helper()
	for record, err := range j.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(record.Batch)
	}
	return n
}
