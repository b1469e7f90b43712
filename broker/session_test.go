package broker_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// again attaches the session anew and repeats operations, as a client does that was cut before it had an answer.
func (c *client) again(id string, ops ...broker.Op) *client {
	back := c.attach(id)
	back.op = c.op
	back.s.Submit(ops)
	return back
}

func TestRepeatedOperationsHaveOneEffect(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		c, w := b.attach("caller"), b.attach("w")
		take := w.consume("q")
		enqueue := broker.Op{ID: 1, Request: &broker.Enqueue{Queue: "q", Body: []byte("m")}}
		call := broker.Op{ID: 2, Credit: 10, Request: &broker.Enqueue{Queue: "q", Body: []byte("c"), Pipe: &broker.PipeOptions{}, Call: true}}
		pipe := broker.Op{ID: 3, Request: &broker.OpenPipe{}}
		c.s.Submit([]broker.Op{enqueue, call, pipe})
		c.op = 3
		first, second, opened := expect[*broker.Receipt](c, 1), expect[*broker.Receipt](c, 2), expect[*broker.PipeOpened](c, 3)
		for range 3 {
			c = c.again("caller", enqueue, call, pipe)
			if r := expect[*broker.Receipt](c, 1); r.Message != first.Message || !r.Duplicate {
				t.Errorf("repeated Enqueue: got %+v, want the receipt of %v", r, first.Message)
			}
			if r := expect[*broker.Receipt](c, 2); r.Message != second.Message || r.Receive != second.Receive || !r.Duplicate {
				t.Errorf("repeated Call: got %+v, want %+v", r, second)
			}
			if p := expect[*broker.PipeOpened](c, 3); p.Send != opened.Send || p.Receive != opened.Receive {
				t.Errorf("repeated OpenPipe: got %+v, want %+v", p, opened)
			}
		}
		w.delivered(take)
		d := w.delivered(take)
		w.quiet(take)
		reply := broker.Op{ID: 100, Request: &broker.Reply{Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("v"), More: true}}
		settle := broker.Op{ID: 101, Request: &broker.Settle{
			Lease: d.lease, Action: broker.Ack,
			Replies:  []*broker.Reply{{Handle: d.replyTo, Kind: broker.ReplyPayload, Body: []byte("last")}},
			Messages: []*broker.Enqueue{{Queue: "other", Body: []byte("next")}},
		}}
		w.s.Submit([]broker.Op{reply, settle})
		want, settled := *expect[*broker.ReplyResult](w, 100), *expect[*broker.Settled](w, 101)
		w = w.again("w", reply, settle)
		if r := expect[*broker.ReplyResult](w, 100); *r != want {
			t.Errorf("repeated Reply: got %+v, want %+v", r, want)
		}
		s := expect[*broker.Settled](w, 101)
		if s.Replies[0] != settled.Replies[0] || s.Receipts[0].Message != settled.Receipts[0].Message {
			t.Errorf("repeated Settle: got %+v, want %+v", s, settled)
		}
		c.replies(2, 1, "v")
		c.replies(2, 2, "last")
		c.ends(2, broker.EndOK)
	})
}

// A Cancel that ended its pipe says so again; whose pipe had ended before finds that again.
func TestRepeatedCancelHasItsFirstAnswer(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		c := b.attach("caller")
		c.s.Submit([]broker.Op{{ID: 1, Request: &broker.OpenPipe{}}})
		pipe := expect[*broker.PipeOpened](c, 1)
		first := broker.Op{ID: 2, Request: &broker.Cancel{Handle: b.keys.Mint(pipe.Receive)}}
		second := broker.Op{ID: 3, Request: &broker.Cancel{Handle: b.keys.Mint(pipe.Receive)}}
		c.s.Submit([]broker.Op{first, second})
		c.op = 3
		for range 3 {
			if got, want := *expect[*broker.Cancelled](c, 2), (broker.Cancelled{Now: true, Reason: broker.EndCancelled}); got != want {
				t.Errorf("first Cancel: got %+v, want %+v", got, want)
			}
			if got, want := *expect[*broker.Cancelled](c, 3), (broker.Cancelled{Reason: broker.EndCancelled}); got != want {
				t.Errorf("second Cancel: got %+v, want %+v", got, want)
			}
			c = c.again("caller", first, second)
		}
	})
}

func TestOutcomesAreForgottenBelowTheMarkAndAfterAMinute(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		c := b.attach("caller")
		op := broker.Op{ID: 1, Request: &broker.Enqueue{Queue: "q"}}
		c.s.Submit([]broker.Op{op})
		first := expect[*broker.Receipt](c, 1)
		c.s.Close()
		<-time.After(59 * time.Second)
		c = c.again("caller", op)
		if r := expect[*broker.Receipt](c, 1); r.Message != first.Message {
			t.Errorf("within a minute: got %v, want %v", r.Message, first.Message)
		}
		c.s.Close()
		<-time.After(61 * time.Second)
		c = c.again("caller", op)
		if r := expect[*broker.Receipt](c, 1); r.Message == first.Message || r.Duplicate {
			t.Errorf("after a minute: got %+v, want a new message", r)
		}
		c.s.Close()
	})
}

func TestHeldReplyIsRememberedInItsPlace(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		c := b.attach("c")
		send, receive := c.pipe(broker.PipeOptions{CapacityReplies: 1})
		c.send(&broker.Reply{Handle: send, Body: []byte("x"), More: true}, broker.ReplyBuffered)
		held := broker.Op{ID: 10, Timeout: 10 * time.Second, Request: &broker.Reply{
			Handle: send, Kind: broker.ReplyPayload, Body: []byte("y"), More: true,
		}}
		later := broker.Op{ID: 11, Request: &broker.OpenPipe{Queue: "q"}}
		c.s.Submit([]broker.Op{held, later})
		expect[*broker.PipeOpened](c, 11)
		c.op = 20
		read := c.receive(receive, 1)
		c.replies(read, 1, "x")
		c.s.Credit(read, 1)
		first := *expect[*broker.ReplyResult](c, 10)
		c = c.again("c", held, later)
		if r := expect[*broker.ReplyResult](c, 10); *r != first {
			t.Errorf("repeated: got %+v, want %+v", r, first)
		}
		c.op = 30
		read = c.receive(receive, 2)
		c.replies(read, 2, "y")
		c.quiet(read)
	})
}

func TestOutcomesAreBounded(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		c := b.attach("c")
		const n = 20_000 // never says what was answered
		for range n {
			c.do(&broker.Enqueue{Queue: "q"})
		}
		c = c.again("c", broker.Op{ID: n - 8000, Request: &broker.Enqueue{Queue: "q"}}, broker.Op{ID: 1, Request: &broker.Enqueue{Queue: "q"}})
		if r := expect[*broker.Receipt](c, n-8000); !r.Duplicate {
			t.Error("an outcome within the window was forgotten")
		}
		if r := expect[*broker.Receipt](c, 1); r.Duplicate {
			t.Error("outcomes grow without bound")
		}
	})
}

func TestNewerSessionTakesOver(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		older := b.attach("same")
		other := b.attachAs("other", "same")
		read := older.consume("q")
		newer := b.attach("same")
		if !older.s.TakenOver() || other.s.TakenOver() || newer.s.TakenOver() {
			t.Error("want only the older session taken over")
		}
		newer.enqueue("q", handles.Handle{})
		older.quiet(read)
		other.delivered(other.consume("q"))
	})
}

func TestClosedSessionDoesNothing(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		c, p := b.attach("c"), b.attach("p")
		c.s.Close()
		c.s.Close()
		c.do(&broker.Enqueue{Queue: "q"})
		c.s.Credit(1, 1)
		c.s.Detach(1)
		if l := expect[*broker.QueueList](p, p.do(&broker.ListQueues{})); len(l.Queues) != 0 {
			t.Errorf("got %+v, want no queue", l.Queues)
		}
	})
}

func TestDescribeTellsWhyOneWaits(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		p.enqueue("q", handles.Handle{})
		_, receipt := p.call("q", "m", broker.PipeOptions{})
		receive := b.keys.Mint(receipt.Receive)
		state := func(want broker.WaitState, in string) *broker.Description {
			t.Helper()
			d := expect[*broker.Description](p, p.do(&broker.Describe{Handle: receive}))
			if d.State != want || !strings.Contains(d.Summary, in) {
				t.Errorf("got state %d %q, want %d and %q", d.State, d.Summary, want, in)
			}
			return d
		}
		if d := state(broker.WaitNoConsumer, "nobody consumes"); d.Carriers[0].Position != 1 || d.Readers != 1 {
			t.Errorf("got %+v", d)
		}
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, op)
		state(broker.WaitQueued, "behind 0 others")
		w.settle(w.delivered(op).Delivery, broker.Ack)
		d := w.delivered(op)
		state(broker.WaitInFlight, "attempt 1")
		if d := expect[*broker.Description](w, w.do(&broker.Describe{Handle: d.replyTo})); d.State != broker.WaitInFlight ||
			d.Carriers[0].Queue != "" || d.NextSequence != 0 {
			t.Errorf("by send handle: got %+v, want the outline only", d)
		}
		if d := expect[*broker.Description](w, w.do(&broker.Describe{Handle: d.lease})); !d.HasPipe || d.State != broker.WaitInFlight {
			t.Errorf("by lease: got %+v", d)
		}
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Retry, Delay: time.Minute}))
		state(broker.WaitDelayed, "held back")
		d = w.delivered(op)
		expect[*broker.Settled](w, w.do(&broker.Settle{Lease: d.lease, Action: broker.Ack, KeepHandles: true}))
		state(broker.WaitOutside, "outside")
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("v")}, broker.ReplyDelivered)
		if d := state(broker.WaitEnded, "OK"); d.End.Reason != broker.EndOK || d.NextSequence != 2 {
			t.Errorf("got %+v", d)
		}
	})
}

func TestQueuesAreListedAndCreated(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for _, name := range []string{"c", "a.x", "a", "b"} {
			expect[*broker.QueueList](p, p.do(&broker.CreateQueue{Queue: name}))
		}
		p.refused(p.do(&broker.CreateQueue{Queue: "a"}), broker.ReasonQueueExists, "name")
		p.refused(p.do(&broker.ListQueues{Name: "nope"}), broker.ReasonQueueNotFound, "name")
		list := func(r broker.ListQueues, more bool, want ...string) {
			t.Helper()
			l := expect[*broker.QueueList](p, p.do(&r))
			var got []string
			for _, q := range l.Queues {
				got = append(got, q.Name)
			}
			if strings.Join(got, " ") != strings.Join(want, " ") || l.More != more {
				t.Errorf("%+v: got %v more %v, want %v %v", r, got, l.More, want, more)
			}
		}
		list(broker.ListQueues{}, false, "a", "a.x", "b", "c")
		list(broker.ListQueues{Prefix: "a"}, false, "a", "a.x")
		list(broker.ListQueues{After: "a.x"}, false, "b", "c")
		list(broker.ListQueues{Limit: 3}, true, "a", "a.x", "b")
		list(broker.ListQueues{Name: "b"}, false, "b")
	})
}

func TestWithoutAutoCreation(t *testing.T) {
	inBed(t, broker.Config{NoAutoCreate: true}, func(t *testing.T, b *bed) {
		p := b.attach("p")
		p.refused(p.do(&broker.Enqueue{Queue: "q"}), broker.ReasonQueueNotFound, "queue")
		p.refused(p.do(&broker.Consume{Queues: []string{"q"}}), broker.ReasonQueueNotFound, "queues[0]")
		expect[*broker.QueueList](p, p.do(&broker.CreateQueue{Queue: "q"}))
		p.enqueue("q", handles.Handle{})
	})
}

func TestRequireConsumer(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		e := &broker.Enqueue{Queue: "q", RequireConsumer: true}
		p.refused(p.do(e), broker.ReasonNoConsumer, "require_consumer")
		p.consume("q")
		if r := expect[*broker.Receipt](p, p.do(e)); r.Consumers != 1 || r.QueueCreated {
			t.Errorf("got %+v, want one consumer", r)
		}
	})
}

func TestPromise6NothingIsSaidBeforeItIsKept(t *testing.T) {
	var let chan error
	openJournal := func(uint16) (journal.Journal, error) {
		let = make(chan error) // in the bubble
		return &journal.Memory{BeforeAppend: func([]byte) error { return <-let }}, nil
	}
	inBed(t, broker.Config{Journal: openJournal}, func(t *testing.T, b *bed) {
		c := b.attach("c")
		op := c.do(&broker.Enqueue{Queue: "q"})
		c.quiet(op)
		list := c.do(&broker.ListQueues{}) // a read that sees an unkept fact waits for it too
		c.quiet(list)
		let <- nil
		expect[*broker.Receipt](c, op)
		expect[*broker.QueueList](c, list)
		lost := c.do(&broker.Enqueue{Queue: "q"})
		let <- errors.New("disk gone")
		c.quiet(lost)
		c.isCut(broker.ReasonJournalFailed)
		c.quiet(c.do(&broker.ListQueues{}))
		c.s.Close()
	})
}

func TestRestoreGoesOnWhereTheJournalEnds(t *testing.T) {
	j := &journal.Memory{}
	cfg := broker.Config{Store: 3, Journal: func(uint16) (journal.Journal, error) { return keptOpen{j}, nil }}
	synctest.Test(t, func(t *testing.T) {
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		start := func() *bed {
			b, err := broker.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return &bed{t, b, keys, 1}
		}
		b := start()
		p, w := b.attach("p"), b.attach("w")
		held := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1})
		expect[*broker.Started](w, held)
		var receipts []*broker.Receipt
		for _, body := range []string{"leased", "ready", "also ready"} {
			_, r := p.call("q", body, broker.PipeOptions{KeepIfAbandoned: true})
			receipts = append(receipts, r)
		}
		expect[*broker.Receipt](p, p.do(&broker.Enqueue{Queue: "q", Body: []byte("delayed"), Delay: time.Minute}))
		d := w.delivered(held)
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("half"), Lease: d.lease, More: true}, broker.ReplyDelivered)
		synctest.Wait()
		if err := b.b.Close(); err != nil { // a crash, as far as the journal knows
			t.Fatal(err)
		}

		b = start()
		p, w = b.attach("p2"), b.attach("w2")
		read := p.receive(keys.Mint(receipts[0].Receive), 1)
		p.replies(read, 1, "half")
		w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("rest"), Lease: d.lease, Ack: true}, broker.ReplyDelivered)
		p.replies(read, 2, "rest")
		p.ends(read, broker.EndOK)
		take := w.consume("q")
		for i, want := range []string{"ready", "also ready", "delayed"} {
			d := w.delivered(take)
			if string(d.Body) != want {
				t.Fatalf("got %q, want %q", d.Body, want)
			}
			if i < 2 {
				w.send(&broker.Reply{Handle: d.replyTo, Body: []byte("v"), Lease: d.lease, Ack: true}, broker.ReplyBuffered)
				read := p.receive(keys.Mint(receipts[i+1].Receive), 1)
				p.replies(read, 1, "v")
				p.ends(read, broker.EndOK)
			}
		}
		p.s.Close()
		w.s.Close()
		if err := b.b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// keptOpen is a journal that outlives the broker that closes it.
type keptOpen struct{ *journal.Memory }

func (keptOpen) Close() error { return nil }

func TestMessageIDText(t *testing.T) {
	id := broker.MessageID{Store: 0xdeadbeef, Shard: 3, Slot: 77, Tag: 0x01020304}
	if got, ok := broker.ParseMessageID(id.String()); !ok || got != id {
		t.Errorf("round trip of %q: got %v %v", id, got, ok)
	}
	for _, bad := range []string{"", "x", strings.ToUpper(id.String()), id.String()[:22] + "v", id.String() + "0"} {
		if _, ok := broker.ParseMessageID(bad); ok {
			t.Errorf("ParseMessageID(%q): accepted", bad)
		}
	}
}
