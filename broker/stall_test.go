package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// isCut checks that the client's session has to end.
func (c *client) isCut(want broker.Reason) {
	c.t.Helper()
	synctest.Wait()
	if err := c.s.CutOff(); err == nil || err.Reason != want {
		c.t.Fatalf("session was cut off with %v, want %s", err, want)
	}
}

func (c *client) isNotCut() {
	c.t.Helper()
	synctest.Wait()
	if err := c.s.CutOff(); err != nil {
		c.t.Fatalf("session was cut off with %v", err)
	}
}

// eachStall runs a test over a disk that can hang, with one shard and with several.
func eachStall(t *testing.T, test func(t *testing.T, b *bed, d *journal.Faulty)) {
	t.Helper()
	for _, shards := range []int{1, 5} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			d := &journal.Faulty{}
			inBed(t, broker.Config{Shards: shards, Journal: d.Open}, func(t *testing.T, b *bed) {
				defer d.GoOn() // also if the test fails
				test(t, b, d)
			})
		})
	}
}

// TestStallCutsWhoWaits: who waits for the disk is cut off after two seconds and not before; who comes back and repeats
// his operations has their first outcomes, and everything happened once.
func TestStallCutsWhoWaits(t *testing.T) {
	eachStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		c, idle := b.attach("c"), b.attach("idle")
		take := idle.consume("q")
		d.Hang()
		ops := []broker.Op{
			{ID: 1, Request: &broker.Enqueue{Queue: "q", Body: []byte("m")}},
			{ID: 2, Credit: 10, Request: &broker.Enqueue{Queue: "q", Body: []byte("c"), Pipe: &broker.PipeOptions{}, Call: true}},
			{ID: 3, Request: &broker.OpenPipe{}},
			{ID: 4, Request: &broker.ListMessages{Queue: "q", Limit: 1}},
		}
		c.s.Submit(ops)
		c.op = 4
		<-time.After(2*time.Second - 1)
		c.isNotCut()
		<-time.After(1)
		c.isCut(broker.ReasonJournalSlow)
		idle.isNotCut() // what it gets are deliveries, not answers
		for op := range uint64(4) {
			c.quiet(op + 1)
		}
		if err := b.b.Stalled(); err == nil || err.Reason != broker.ReasonJournalSlow || err.OutcomeUnknown || err.RetryAfter == 0 {
			t.Errorf("Stalled() = %+v, want that nothing is carried out now", err)
		}
		c.s.Close()
		d.GoOn()
		synctest.Wait()
		if err := b.b.Stalled(); err != nil {
			t.Errorf("Stalled() = %v when the disk goes on", err)
		}
		c = c.again("c", ops...)
		first, second := expect[*broker.Receipt](c, 1), expect[*broker.Receipt](c, 2)
		expect[*broker.PipeOpened](c, 3)
		expect[*broker.MessageList](c, 4)
		if !first.Duplicate || !second.Duplicate {
			t.Errorf("repeated operations have the receipts %+v and %+v, want those of before", first, second)
		}
		for _, want := range []*broker.Receipt{first, second} {
			if got := idle.delivered(take); got.Message != want.Message || got.Attempt != 1 {
				t.Errorf("delivery %v, attempt %d, want %v for the first time", got.Message, got.Attempt, want.Message)
			}
		}
		idle.quiet(take)
	})
}

// TestStallRefusesAtOnce: while the disk hangs nothing is carried out, reads included, and it is said so at once.
func TestStallRefusesAtOnce(t *testing.T) {
	eachStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		c, other := b.attach("c"), b.attach("other")
		d.Hang()
		c.do(&broker.Enqueue{Queue: "q"})
		<-time.After(2 * time.Second)
		c.isCut(broker.ReasonJournalSlow)
		queue := "q"
		if b.shards > 1 { // any queue of the shard that hangs; others may go on
			queue = "q.more"
		}
		for _, r := range []broker.Request{
			&broker.Enqueue{Queue: queue}, &broker.Consume{Queues: []string{queue}}, &broker.CreateQueue{Queue: queue},
			&broker.ListQueues{}, &broker.ListMessages{Queue: queue, Limit: 1}, &broker.OpenPipe{Queue: queue},
		} {
			err := expect[*broker.Error](other, other.do(r))
			want := &broker.Error{Code: broker.CodeUnavailable, Reason: broker.ReasonJournalSlow, RetryAfter: time.Second, Text: err.Text}
			if diff := cmp.Diff(want, err); diff != "" {
				t.Errorf("%T (-want +got):\n%s", r, diff)
			}
		}
		other.isNotCut()
		d.GoOn()
		synctest.Wait()
		if r := expect[*broker.Receipt](other, other.do(&broker.Enqueue{Queue: queue})); r.Duplicate {
			t.Errorf("the refused message was stored: %+v", r)
		}
		want := uint64(2)
		if b.shards > 1 {
			want = 1
		}
		if got := other.queue(queue).Ready; got != want {
			t.Errorf("%d messages in %s, want %d", got, queue, want)
		}
		c.s.Close()
	})
}

func inStall(t *testing.T, test func(t *testing.T, b *bed, d *journal.Faulty)) {
	t.Helper()
	d := &journal.Faulty{}
	inBed(t, broker.Config{Shards: 1, Journal: d.Open}, func(t *testing.T, b *bed) {
		defer d.GoOn() // also if the test fails
		test(t, b, d)
	})
}

// TestStallTakesNothingAway: however long the disk hangs, a consumer that was cut off and comes back with its leases has
// them, a lease that could not be extended is in force, and a call whose caller could not come back waits for him.
func TestStallTakesNothingAway(t *testing.T) {
	inStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		w, silent, c := b.attach("w"), b.attach("silent"), b.attach("c")
		take := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "w", LeaseTime: 10 * time.Second})
		expect[*broker.Started](w, take)
		_, receipt := c.call("q", "m", broker.PipeOptions{DisconnectGrace: 10 * time.Second})
		held := w.delivered(take)
		other := silent.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, LeaseTime: 10 * time.Second})
		expect[*broker.Started](silent, other)
		c.enqueue("q", handles.Handle{})
		quiet := silent.delivered(other)

		d.Hang()
		w.do(&broker.Enqueue{Queue: "elsewhere"})
		c.do(&broker.Enqueue{Queue: "elsewhere"})
		<-time.After(2 * time.Second)
		w.isCut(broker.ReasonJournalSlow)
		c.isCut(broker.ReasonJournalSlow)
		w.s.Close()
		c.s.Close()
		<-time.After(time.Minute)
		d.GoOn()
		synctest.Wait()

		<-time.After(4 * time.Second)
		w, c = b.attach("w"), b.attach("c")
		w.op, c.op = 10, 10
		take = w.do(&broker.Consume{
			Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "w", LeaseTime: 10 * time.Second, Held: []handles.Handle{held.lease},
		})
		expect[*broker.Started](w, take)
		call := c.receive(b.keys.Mint(receipt.Receive), 1)
		w.send(&broker.Reply{Handle: held.replyTo, Body: []byte("v"), Lease: held.lease, Ack: true}, broker.ReplyDelivered)
		c.replies(call, 1, "v")
		c.ends(call, broker.EndOK)
		silent.settle(quiet.Delivery, broker.Ack)
		w.quiet(take)
		if q := c.queue("q"); q.Ready != 0 || q.InFlight != 0 || q.Failed != 0 {
			t.Errorf("queue has %d ready, %d in flight, %d failed, want none", q.Ready, q.InFlight, q.Failed)
		}
	})
}

// TestStallEndsGraces: who does not come back within five seconds after a stall has lost what he had.
func TestStallEndsGraces(t *testing.T) {
	inStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		w, c := b.attach("w"), b.attach("c")
		take := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "w"})
		expect[*broker.Started](w, take)
		call, _ := c.call("q", "m", broker.PipeOptions{})
		w.delivered(take)
		d.Hang()
		w.do(&broker.Enqueue{Queue: "elsewhere"})
		<-time.After(20 * time.Second)
		w.isCut(broker.ReasonJournalSlow)
		w.s.Close()
		d.GoOn()
		synctest.Wait()
		next := b.attach("next")
		take = next.consume("q")
		<-time.After(5*time.Second - 1)
		next.quiet(take)
		<-time.After(1)
		if got := next.delivered(take); got.Attempt != 2 || got.Failures != 1 {
			t.Errorf("attempt %d after %d failures, want the second after one", got.Attempt, got.Failures)
		}
		c.quiet(call)
	})
}

// TestBehindRefuses: with more than the bound waiting for the disk, nothing is taken; what waits is answered, and then
// all goes on, timers too.
func TestBehindRefuses(t *testing.T) {
	d := &journal.Faulty{}
	inBed(t, broker.Config{Shards: 1, Journal: d.Open, MaxUnkept: 10_000}, func(t *testing.T, b *bed) {
		c := b.attach("c")
		call, _ := c.call("timed", "m", broker.PipeOptions{Timeout: time.Second})
		d.Hang()
		body := bytes.Repeat([]byte("x"), 1000)
		var taken, refused []uint64
		for range 30 {
			op := c.do(&broker.Enqueue{Queue: "q", Body: body})
			if e, ok := c.poll(op); ok {
				err, isError := e.Body.(*broker.Error)
				if !isError || err.Reason != broker.ReasonJournalSlow || err.RetryAfter != 100*time.Millisecond || err.OutcomeUnknown {
					t.Fatalf("operation %d: got %+v, want JOURNAL_SLOW", op, e.Body)
				}
				refused = append(refused, op)
				continue
			}
			taken = append(taken, op)
		}
		if len(taken) < 9 || len(taken) > 10 || len(refused) != 30-len(taken) {
			t.Errorf("%d operations of 1,000 bytes were taken and %d refused with room for 10,000 bytes", len(taken), len(refused))
		}
		<-time.After(1500 * time.Millisecond) // the call's deadline passes, of which nothing may be said
		c.isNotCut()
		c.quiet(call)
		d.GoOn()
		synctest.Wait()
		for _, op := range taken {
			expect[*broker.Receipt](c, op)
		}
		c.ends(call, broker.EndExpired)
		expect[*broker.Receipt](c, c.do(&broker.Enqueue{Queue: "q", Body: body}))
	})
}

// TestStallIsBounded: what is refused while the disk hangs takes no memory, and no timer spins.
func TestStallIsBounded(t *testing.T) {
	inStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		c, other := b.attach("c"), b.attach("other")
		for range 100 {
			c.call("q", "m", broker.PipeOptions{Timeout: 5 * time.Second})
		}
		d.Hang()
		c.do(&broker.Enqueue{Queue: "q"})
		<-time.After(time.Hour)
		before := b.b.MemoryUsed()
		for range 10_000 {
			other.refused(other.do(&broker.Enqueue{Queue: "q", Body: make([]byte, 1000)}), broker.ReasonJournalSlow, "")
		}
		if grown := b.b.MemoryUsed() - before; grown != 0 {
			t.Errorf("%d bytes more after refusals", grown)
		}
		d.GoOn()
		synctest.Wait()
		c.s.Close()
	})
}

// TestJournalFails: who waits is cut off, later operations too, and the broker says why, once.
func TestJournalFails(t *testing.T) {
	eachStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
		c, other := b.attach("c"), b.attach("other")
		want := errors.New("input/output error")
		d.Fail(want)
		lost := c.do(&broker.Enqueue{Queue: "q"})
		c.isCut(broker.ReasonJournalFailed)
		c.quiet(lost)
		if err := c.s.CutOff(); !err.OutcomeUnknown {
			t.Errorf("the outcome of what waited is said to be known: %v", err)
		}
		other.do(&broker.Enqueue{Queue: "q"})
		other.isCut(broker.ReasonJournalFailed)
		select {
		case got := <-b.b.Failed():
			if !errors.Is(got, want) {
				t.Errorf("Failed gave %v, want %v", got, want)
			}
		default:
			t.Error("Failed gave nothing")
		}
		if err := b.b.Stalled(); err == nil || err.Reason != broker.ReasonJournalFailed {
			t.Errorf("Stalled() = %v, want JOURNAL_FAILED", err)
		}
		c.s.Close()
		other.s.Close()
	})
}

// TestCloseKeepsWhatIsLeft: what was accepted before a stop is kept, and answered.
func TestCloseKeepsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &journal.Faulty{}
		br, err := broker.Open(broker.Config{Journal: d.Open})
		if err != nil {
			t.Fatal(err)
		}
		c := (&bed{t: t, b: br, shards: 1}).attach("c")
		d.Hang()
		first := c.do(&broker.Enqueue{Queue: "q"})
		synctest.Wait()
		second := c.do(&broker.Enqueue{Queue: "q"}) // gathers for the next append
		closed := make(chan error)
		go func() { closed <- br.Close() }()
		<-time.After(time.Second)
		d.GoOn()
		synctest.Wait()
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		expect[*broker.Receipt](c, first)
		expect[*broker.Receipt](c, second)
	})
}

// TestCloseGivesUpOnAStalledDisk: a stop does not wait for ever, and says that something may be lost.
func TestCloseGivesUpOnAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &journal.Faulty{}
		br, err := broker.Open(broker.Config{Journal: d.Open})
		if err != nil {
			t.Fatal(err)
		}
		c := (&bed{t: t, b: br, shards: 1}).attach("c")
		d.Hang()
		c.do(&broker.Enqueue{Queue: "q"})
		synctest.Wait()
		closed := make(chan error)
		go func() { closed <- br.Close() }()
		<-time.After(2 * time.Second)
		c.isCut(broker.ReasonJournalSlow)
		d.GoOn()
		synctest.Wait()
		if err := <-closed; err == nil {
			t.Error("Close: no error, although a batch had not been kept in time")
		}
	})
}

// TestShutdownLeavesEverything: with a journal a stop ends no pipe and takes no lease away, whoever closes when.
func TestShutdownLeavesEverything(t *testing.T) {
	kept := &journal.Memory{}
	cfg := broker.Config{Store: 9, Journal: func(uint16) (journal.Journal, error) { return keptOpen{kept}, nil }}
	var held delivery
	var receipt *broker.Receipt
	synctest.Test(t, func(t *testing.T) {
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		br, err := broker.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		b := &bed{t, br, keys, 1}
		w, c := b.attach("w"), b.attach("c")
		take := w.consume("q")
		_, receipt = c.call("q", "m", broker.PipeOptions{DisconnectGrace: time.Second})
		held = w.delivered(take)
		required := c.do(&broker.Enqueue{Queue: "q", RequireConsumer: true, Pipe: &broker.PipeOptions{}})
		expect[*broker.Receipt](c, required)
		w.delivered(take)
		br.Shutdown()
		c.refused(c.do(&broker.ListQueues{}), broker.ReasonDraining, "")
		w.refused(w.do(&broker.Settle{Lease: held.lease, Action: broker.Ack}), broker.ReasonDraining, "")
		w.s.Close()
		c.s.Close()
		<-time.After(time.Hour)
		if err := br.Close(); err != nil {
			t.Fatal(err)
		}

		br, err = broker.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		b.b = br
		w, c = b.attach("w"), b.attach("c")
		if q := c.queue("q"); q.InFlight != 2 || q.Failed != 0 {
			t.Errorf("queue has %d in flight and %d failed, want two in flight", q.InFlight, q.Failed)
		}
		read := c.receive(b.keys.Mint(receipt.Receive), 1)
		w.op = 100
		w.send(&broker.Reply{Handle: held.replyTo, Body: []byte("v"), Lease: held.lease, Ack: true}, broker.ReplyDelivered)
		c.replies(read, 1, "v")
		c.ends(read, broker.EndOK)
		w.s.Close()
		c.s.Close()
		if err := br.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAbandonedBrokerRefusesNothing: when the journal is given up, who asks for anything is cut off with JOURNAL_FAILED, in
// every shard and however far a stop has come. A refusal would say that nothing was carried out, which nobody knows any
// more.
func TestAbandonedBrokerRefusesNothing(t *testing.T) {
	for name, before := range map[string]func(*broker.Broker){
		"serving":  func(*broker.Broker) {},
		"draining": (*broker.Broker).Drain,
		"stopped":  (*broker.Broker).Shutdown,
	} {
		t.Run(name, func(t *testing.T) {
			eachStall(t, func(t *testing.T, b *bed, d *journal.Faulty) {
				waiting := b.attach("waiting")
				d.Hang()
				lost := waiting.do(&broker.Enqueue{Queue: "q"})
				synctest.Wait()
				done := make(chan struct{})
				go func() {
					defer close(done)
					before(b.b)
				}()
				synctest.Wait()
				b.b.Abandon(errors.New("input/output error"))
				<-done
				waiting.isCut(broker.ReasonJournalFailed)
				waiting.quiet(lost)
				d.GoOn()
				synctest.Wait()
				waiting.quiet(lost)
				for _, r := range []broker.Request{
					&broker.Enqueue{Queue: "q"}, &broker.Enqueue{Queue: "q.more"}, &broker.CreateQueue{Queue: "other"}, &broker.ListQueues{},
				} {
					c := b.attach("c")
					op := c.do(r)
					c.isCut(broker.ReasonJournalFailed)
					c.quiet(op)
					c.s.Close()
				}
				waiting.s.Close()
			})
		})
	}
}
