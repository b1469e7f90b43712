package broker_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// An owner has journals in which a test can stop it, and a lease which a test can let lapse.
type owner struct {
	journal.Faulty
	lapsed atomic.Bool
}

func (o *owner) config(shards int) broker.Config {
	return broker.Config{Shards: shards, Journal: o.Open, Lease: func() bool { return !o.lapsed.Load() }}
}

// depose takes everything from it, of which it knows nothing.
func (o *owner) depose() {
	o.lapsed.Store(true)
	o.Fail(fmt.Errorf("epoch 8 was seen: %w", journal.ErrDeposed))
}

func eachOwner(t *testing.T, test func(t *testing.T, b *bed, o *owner)) {
	t.Helper()
	for _, shards := range []int{1, 5} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			o := &owner{}
			inBed(t, o.config(shards), func(t *testing.T, b *bed) {
				defer o.GoOn() // also if the test fails
				test(t, b, o)
			})
		})
	}
}

// taken are the operations of all events that have come.
func (c *client) taken() (ops []uint64) {
	synctest.Wait()
	for _, e := range c.s.Take(nil) {
		ops = append(ops, e.Op)
	}
	return ops
}

// lapse lets the lease lapse while the journals hang, so that nothing vouches.
func (o *owner) lapse() { o.Hang(); o.lapsed.Store(true) }

// renew ends that.
func (o *owner) renew() { o.lapsed.Store(false); o.GoOn() }

// TestShortLapseOnlyDelays: what is read while nothing vouches for it is said when something does, in order, and nobody is
// cut off before two seconds.
func TestShortLapseOnlyDelays(t *testing.T) {
	eachOwner(t, func(t *testing.T, b *bed, o *owner) {
		c := b.attach("c")
		c.enqueue("q", handles.Handle{})
		o.lapse()
		var want []uint64
		for range 5 {
			want = append(want, c.do(&broker.ListMessages{Queue: "q", Limit: 1}), c.do(&broker.DeleteQueue{Queue: "q"}))
		}
		<-time.After(2*time.Second - 1)
		if got := c.taken(); len(got) > 0 {
			t.Fatalf("operations %d were answered without a lease", got)
		}
		c.isNotCut()
		o.renew()
		<-time.After(time.Second)
		c.isNotCut()
		if diff := cmp.Diff(want, c.taken()); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		expect[*broker.MessageList](c, c.do(&broker.ListMessages{Queue: "q", Limit: 1}))
	})
}

// TestLongLapseIsAStall: who waits is cut off after two seconds; a session that may have been elsewhere is refused nothing
// then, a plain call is, and time stands still. When the lease is renewed all goes on.
func TestLongLapseIsAStall(t *testing.T) {
	eachOwner(t, func(t *testing.T, b *bed, o *owner) {
		c, other, plain, silent := b.attach("c"), b.attach("other"), b.attach(""), b.attach("silent")
		take := silent.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, LeaseTime: 10 * time.Second})
		expect[*broker.Started](silent, take)
		c.enqueue("q", handles.Handle{})
		held := silent.delivered(take)
		o.lapse()
		read := c.do(&broker.ListMessages{Queue: "q", Limit: 1})
		lists := b.attach("") // and waits for what it reads in each shard, before it goes to the next
		list := lists.do(&broker.ListQueues{})
		<-time.After(2 * time.Second)
		c.isCut(broker.ReasonJournalSlow)
		lists.isCut(broker.ReasonJournalSlow)
		lists.quiet(list)
		other.isNotCut()
		if err := b.b.Stalled(); err == nil || err.Reason != broker.ReasonJournalSlow {
			t.Errorf("Stalled() = %v in a lapse", err)
		}
		err := expect[*broker.Error](plain, plain.do(&broker.Enqueue{Queue: "q"}))
		if err.Reason != broker.ReasonJournalSlow || err.OutcomeUnknown {
			t.Errorf("a plain call was refused with %+v, want JOURNAL_SLOW, not carried out", err)
		}
		op := other.do(&broker.Enqueue{Queue: "q"})
		other.isCut(broker.ReasonJournalSlow)
		if err := other.s.CutOff(); !err.OutcomeUnknown {
			t.Errorf("a session was cut off with %+v, want an unknown outcome", err)
		}
		other.quiet(op)
		c.quiet(read)
		c.s.Close()
		other.s.Close()
		<-time.After(time.Minute)
		silent.quiet(take) // its lease is in force, since nobody could extend it

		o.renew()
		<-time.After(time.Second)
		if err := b.b.Stalled(); err != nil {
			t.Errorf("Stalled() = %v with a lease", err)
		}
		silent.settle(held.Delivery, broker.Ack)
		if q := plain.queue("q"); q.Ready != 0 || q.InFlight != 0 {
			t.Errorf("queue has %d ready and %d in flight, want none", q.Ready, q.InFlight)
		}
	})
}

// TestAppendVouches: without a lease, what was read is said when an append has ended well that began after it was read, of
// nothing if there is nothing to append; what was read beside an append is not said by it.
func TestAppendVouches(t *testing.T) {
	o := &owner{}
	inBed(t, o.config(1), func(t *testing.T, b *bed) {
		defer o.GoOn()
		c, w := b.attach("c"), b.attach("w")
		o.lapsed.Store(true)
		for range 3 {
			expect[*broker.QueueList](c, c.do(&broker.ListQueues{}))
		}
		<-time.After(time.Minute)
		c.isNotCut()
		o.Hang()
		store := w.do(&broker.Enqueue{Queue: "q"})
		synctest.Wait() // it is under way
		beside := c.do(&broker.ListQueues{})
		o.Fail(fmt.Errorf("epoch 8 was seen: %w", journal.ErrDeposed)) // later appends
		o.GoOn()
		expect[*broker.Receipt](w, store)
		c.quiet(beside)
		c.isCut(broker.ReasonOwnerChanged)
	})
}

// everyRequest is one of each kind, for which there is something to do or to say; and some that are refused.
func everyRequest(c *client, w *client, take uint64) map[string]broker.Request {
	send, receive := c.pipe(broker.PipeOptions{})
	call := expect[*broker.Receipt](c, c.do(&broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{}}))
	held := w.delivered(take)
	c.enqueue("other.queue", handles.Handle{})
	c.enqueue("third", send)
	return map[string]broker.Request{
		"Enqueue": &broker.Enqueue{Queue: "q"},
		"Enqueue with a pipe": &broker.Enqueue{
			Queue: "fourth", ReplyTo: send, Cargo: broker.Cargo{Handles: []broker.NamedHandle{{Name: "h", Handle: receive}}},
		},
		"Enqueue refused":     &broker.Enqueue{Queue: "nobody", RequireConsumer: true},
		"Consume":             &broker.Consume{Queues: []string{"other.queue"}, MaxInFlight: 1},
		"Consume of several":  &broker.Consume{Queues: []string{"q", "other.queue", "third"}, MaxInFlight: 5},
		"Consume, taken over": &broker.Consume{Queues: []string{"q", "other.queue"}, MaxInFlight: 5, ConsumerID: "w"},
		"Reply":               &broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("v")},
		"Reply and ack":       &broker.Reply{Handle: held.replyTo, Kind: broker.ReplyPayload, Body: []byte("v"), Lease: held.lease, Ack: true},
		"Reply refused":       &broker.Reply{Handle: receive, Kind: broker.ReplyPayload},
		"Settle":              &broker.Settle{Lease: held.lease, Action: broker.Ack},
		"Settle refused":      &broker.Settle{Lease: held.replyTo, Action: broker.Ack},
		"Settle and more": &broker.Settle{
			Lease: held.lease, Action: broker.Ack, Messages: []*broker.Enqueue{{Queue: "fifth"}, {Queue: "other.queue"}},
		},
		"ExtendLeases":    &broker.ExtendLeases{Leases: []handles.Handle{held.lease}},
		"StopConsuming":   &broker.StopConsuming{ConsumerID: "w"},
		"OpenPipe":        &broker.OpenPipe{},
		"Receive":         &broker.Receive{Handle: receive},
		"Cancel":          &broker.Cancel{Handle: receive},
		"Describe":        &broker.Describe{Handle: send},
		"CreateQueue":     &broker.CreateQueue{Queue: "new"},
		"UpdateQueue":     &broker.UpdateQueue{Queue: "q"},
		"DeleteQueue":     &broker.DeleteQueue{Queue: "q", Force: true},
		"PurgeQueue":      &broker.PurgeQueue{Queue: "other.queue"},
		"ListMessages":    &broker.ListMessages{Queue: "other.queue", Limit: 10},
		"DeleteMessages":  &broker.DeleteMessages{Queue: "q", Messages: []broker.MessageID{call.Message}},
		"RedriveMessages": &broker.RedriveMessages{Queue: "q", Messages: []broker.MessageID{call.Message}},
		"EndPipe":         &broker.EndPipe{Message: call.Message},
		"ListQueues":      &broker.ListQueues{},
	}
}

// TestDeposedSaysNothing: an owner that was deposed, and does not know it yet, confirms, delivers and refuses nothing,
// whatever it is asked; who asks is cut off.
func TestDeposedSaysNothing(t *testing.T) {
	var names []string
	ask := func(t *testing.T, shards int, id, name string) {
		o := &owner{}
		inBed(t, o.config(shards), func(t *testing.T, b *bed) {
			c, w, reader := b.attach("c"), b.attach("w"), b.attach("r")
			take := w.do(&broker.Consume{Queues: []string{"q", "fourth"}, MaxInFlight: 100, ConsumerID: "w"})
			expect[*broker.Started](w, take)
			all := everyRequest(c, w, take)
			if r, ok := all["Receive"].(*broker.Receive); ok {
				reader.receive(r.Handle, 1)
			}
			asker := b.attach(id)
			c.taken()
			o.depose()
			asker.do(all[name])
			<-time.After(3 * time.Second)
			for name, c := range map[string]*client{"asker": asker, "consumer": w, "reader": reader} {
				synctest.Wait()
				for _, e := range c.s.Take(nil) {
					t.Errorf("the %s was told %T %+v", name, e.Body, e.Body)
				}
			}
			if err := asker.s.CutOff(); err == nil || !err.OutcomeUnknown || err.RetryAfter == 0 {
				t.Errorf("who asked was cut off with %+v, want an unknown outcome", err)
			}
			select {
			case err := <-b.b.Failed():
				if !errors.Is(err, journal.ErrDeposed) {
					t.Errorf("Failed gave %v", err)
				}
				for name, c := range map[string]*client{"asker": asker, "consumer": w, "reader": reader, "idle": c} {
					if err := c.s.CutOff(); err == nil || err.Reason != broker.ReasonOwnerChanged && c != asker {
						t.Errorf("the %s was cut off with %v, want OWNER_CHANGED", name, err)
					}
				}
			default:
				t.Error("it does not know that it was deposed")
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // for the names
		br, err := broker.Open(broker.Config{})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		b := &bed{t, br, keys, 1}
		w := b.attach("w")
		for name := range everyRequest(b.attach("c"), w, w.consume("q")) {
			names = append(names, name)
		}
		if err := br.Close(); err != nil {
			t.Fatal(err)
		}
	})
	for _, shards := range []int{1, 5} {
		for _, id := range []string{"a session", ""} {
			for _, name := range names {
				t.Run(fmt.Sprintf("%s, %d shards, id %q", name, shards, id), func(t *testing.T) {
					ask(t, shards, id, name)
				})
			}
		}
	}
}
