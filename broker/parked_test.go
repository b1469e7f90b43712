package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A session's replies to a pipe keep their order although the pipe is full: none with more overtakes one that waits, and
// the one that ends the pipe takes them along.
func TestRepliesThatWaitKeepTheirOrder(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		send, receive := p.pipe(broker.PipeOptions{CapacityBytes: 100})
		more := func(body string) uint64 {
			return p.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{
				Handle: send, Kind: broker.ReplyPayload, Body: []byte(body), More: true,
			}})
		}
		first, large := strings.Repeat("a", 90), strings.Repeat("b", 50)
		p.send(&broker.Reply{Handle: send, Body: []byte(first), More: true}, broker.ReplyBuffered)
		waits := more(large)
		p.quiet(waits)
		small := more("c") // there would be room for it
		p.quiet(small)
		p.refused(p.do(&broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("d"), More: true}), broker.ReasonPipeFull, "handle")
		last := p.do(&broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("e")})
		for i, op := range []uint64{waits, small, last} {
			if r := expect[*broker.ReplyResult](p, op); r.Outcome != broker.ReplyBuffered || r.Sequence != uint64(i)+2 {
				t.Errorf("reply %d: got %+v, want it buffered", i+2, r)
			}
		}
		read := p.receive(receive, 1)
		for i, want := range []string{first, large, "c", "e"} {
			p.replies(read, uint64(i)+1, want)
		}
		p.ends(read, broker.EndOK)
	})
}

// When a reply has waited too long, those behind it are refused with it: later they would be out of order.
func TestRepliesBehindOneThatIsRefused(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, other := b.attach("p"), b.attach("other")
		send, receive := p.pipe(broker.PipeOptions{CapacityReplies: 1})
		p.send(&broker.Reply{Handle: send, Body: []byte("x"), More: true}, broker.ReplyBuffered)
		more := &broker.Reply{Handle: send, Kind: broker.ReplyPayload, Body: []byte("y"), More: true}
		start := time.Now()
		early := p.doWith(broker.Op{Timeout: 2 * time.Second, Request: more})
		foreign := other.doWith(broker.Op{Timeout: 9 * time.Second, Request: more})
		late := p.doWith(broker.Op{Timeout: 8 * time.Second, Request: more})
		p.refused(early, broker.ReasonPipeFull, "handle")
		p.refused(late, broker.ReasonPipeFull, "handle")
		if since := time.Since(start); since < 2*time.Second || since > 2200*time.Millisecond {
			t.Errorf("held for %v, want 2s", since)
		}
		other.quiet(foreign)
		read := p.receive(receive, 1)
		p.replies(read, 1, "x")
		p.s.Credit(read, 1)
		if r := expect[*broker.ReplyResult](other, foreign); r.Sequence != 2 {
			t.Errorf("another session's reply: got %+v, want sequence 2", r)
		}
	})
}

// A delivery is not settled before what was said under it: an ack does not break a promise whose answer waits for room.
func TestAckWaitsForNoRoom(t *testing.T) {
	inBed(t, broker.Config{}, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		call, _ := p.call("q", "m", broker.PipeOptions{CapacityReplies: 1})
		d := w.delivered(w.consume("q"))
		answer := func(body string) uint64 {
			return w.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{
				Handle: d.replyTo, Lease: d.lease, Kind: broker.ReplyPayload, Body: []byte(body), More: true,
			}})
		}
		expect[*broker.ReplyResult](w, answer("1"))
		waits := answer("2")
		w.quiet(waits)
		w.settle(d.Delivery, broker.Ack)
		if r := expect[*broker.ReplyResult](w, waits); r.Sequence != 2 {
			t.Errorf("the reply that waited: got %+v, want sequence 2", r)
		}
		p.replies(call, 1, "1")
		p.replies(call, 2, "2")
		p.ends(call, broker.EndOK)
	})
}

// A reply that waits for room and acks a delivery has settled it before whatever its session does with the delivery next.
func TestAnswerThatWaitsSettlesFirst(t *testing.T) {
	stale := func(field string) func(w *client, op uint64) {
		return func(w *client, op uint64) { w.refused(op, broker.ReasonLeaseStale, field) }
	}
	for name, test := range map[string]struct {
		then func(d delivery, other handles.Handle) broker.Request
		want func(w *client, op uint64)
	}{
		"ack": {
			func(d delivery, _ handles.Handle) broker.Request {
				return &broker.Settle{Lease: d.lease, Action: broker.Ack}
			},
			func(w *client, op uint64) {
				if s := expect[*broker.Settled](w, op); !s.Already {
					w.t.Errorf("got %+v, want it settled already", s)
				}
			},
		},
		"release": {
			func(d delivery, _ handles.Handle) broker.Request {
				return &broker.Settle{Lease: d.lease, Action: broker.Release}
			},
			stale("lease"),
		},
		"reject": {
			func(d delivery, _ handles.Handle) broker.Request {
				return &broker.Settle{Lease: d.lease, Action: broker.Reject}
			},
			stale("lease"),
		},
		"retry with a message": {
			func(d delivery, _ handles.Handle) broker.Request {
				return &broker.Settle{Lease: d.lease, Action: broker.Retry, Messages: []*broker.Enqueue{{Queue: "q"}}}
			},
			stale("lease"),
		},
		"release with its last reply": {
			func(d delivery, _ handles.Handle) broker.Request {
				return &broker.Settle{Lease: d.lease, Action: broker.Release, Replies: []*broker.Reply{{Handle: d.replyTo, Kind: broker.ReplyPayload}}}
			},
			stale("lease"),
		},
		"reply elsewhere with an ack": {
			func(d delivery, other handles.Handle) broker.Request {
				return &broker.Reply{Handle: other, Kind: broker.ReplyPayload, Lease: d.lease, Ack: true}
			},
			stale("lease"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachPlacement(t, func(t *testing.T, b *bed) {
				p, w := b.attach("p"), b.attach("w")
				call, _ := p.call("q", "m", broker.PipeOptions{CapacityReplies: 1})
				other := b.keys.Mint(expect[*broker.PipeOpened](p, p.do(&broker.OpenPipe{Queue: "q"})).Send)
				d := w.delivered(w.consume("q"))
				answer := func(ack bool) uint64 {
					return w.doWith(broker.Op{Timeout: 10 * time.Second, Request: &broker.Reply{
						Handle: d.replyTo, Lease: d.lease, Kind: broker.ReplyPayload, More: true, Ack: ack,
					}})
				}
				expect[*broker.ReplyResult](w, answer(false))
				waits := answer(true)
				w.quiet(waits)
				op := w.do(test.then(d, other))
				if r := expect[*broker.ReplyResult](w, waits); r.Sequence != 2 {
					t.Errorf("the reply that waited: got %+v, want sequence 2", r)
				}
				test.want(w, op)
				p.replies(call, 1, "")
				p.replies(call, 2, "")
				p.ends(call, broker.EndOK)
				if q := p.queue("q"); q.Ready != 0 || q.InFlight != 0 {
					t.Errorf("the queue has %d ready and %d in flight, want none", q.Ready, q.InFlight)
				}
			})
		})
	}
}
