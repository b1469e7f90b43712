package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/journalflag"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bed is a broker in fake time, with a key ring to mint what a server would.
type bed struct {
	t      *testing.T
	b      *broker.Broker
	keys   *handles.KeyRing
	shards int
}

// eachPlacement runs a test with everything in one shard, and with queues and pipes spread over several.
func eachPlacement(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Helper()
	for _, shards := range []int{1, 5} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			inBed(t, broker.Config{Shards: shards}, test)
		})
	}
}

func inBed(t *testing.T, cfg broker.Config, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		journalflag.Set(t, &cfg)
		b, err := broker.Open(cfg)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatalf("NewEphemeral: %v", err)
		}
		test(t, &bed{t, b, keys, cfg.Shards})
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// A client is a session with the events it has not looked at.
type client struct {
	*bed
	s   *broker.Session
	op  uint64
	got []broker.Event
}

func (b *bed) attach(id string) *client { return b.attachAs("p", id) }

func (b *bed) attachAs(principal, id string) *client {
	s := b.b.Attach(broker.Identity{Tenant: 1, TenantName: "default", Principal: principal}, broker.SessionOptions{ID: []byte(id)})
	return &client{bed: b, s: s}
}

// do submits a request and returns its operation number.
func (c *client) do(r broker.Request) uint64 { return c.doWith(broker.Op{Credit: 1000, Request: r}) }

func (c *client) doWith(op broker.Op) uint64 {
	c.op++
	op.ID = c.op
	if r, ok := op.Request.(*broker.Consume); ok && r.MaxInFlight > 0 {
		op.Credit = 0
	}
	c.s.Submit([]broker.Op{op})
	return c.op
}

// next waits for an operation's next event.
func (c *client) next(op uint64) broker.Event {
	c.t.Helper()
	deadline := time.After(24 * time.Hour)
	for {
		if e, ok := c.poll(op); ok {
			return e
		}
		select {
		case <-c.s.Ready():
		case <-deadline:
			c.t.Fatalf("operation %d: no event in a day; of others: %d", op, len(c.got))
		}
	}
}

// poll returns an operation's next event if it is there.
func (c *client) poll(op uint64) (broker.Event, bool) {
	c.got = c.s.Take(c.got)
	for i, e := range c.got {
		if e.Op == op {
			c.got = append(c.got[:i:i], c.got[i+1:]...)
			return e, true
		}
	}
	return broker.Event{}, false
}

// quiet checks that nothing comes for an operation until everything has settled.
func (c *client) quiet(op uint64) {
	c.t.Helper()
	synctest.Wait()
	if e, ok := c.poll(op); ok {
		c.t.Fatalf("operation %d: got %T %+v, want nothing", op, e.Body, e.Body)
	}
}

func expect[T any](c *client, op uint64) T {
	c.t.Helper()
	e := c.next(op)
	body, ok := e.Body.(T)
	if !ok {
		c.t.Fatalf("operation %d: got %T (%v), want %T", op, e.Body, e.Body, body)
	}
	return body
}

func (c *client) refused(op uint64, reason broker.Reason, field string) {
	c.t.Helper()
	err := expect[*broker.Error](c, op)
	if err.Reason != reason || err.Field != field {
		c.t.Fatalf("operation %d: got %v, want %s on %q", op, err, reason, field)
	}
}

// ends checks that an operation's next event is the end of its pipe.
func (c *client) ends(op uint64, reason broker.EndReason) *broker.End {
	c.t.Helper()
	end := expect[*broker.End](c, op)
	if end.Reason != reason {
		c.t.Fatalf("operation %d: ended %v (%s), want %v", op, end.Reason, end.Text, reason)
	}
	return end
}

// replies checks that an operation's next event is a reply.
func (c *client) replies(op uint64, sequence uint64, body string) *broker.ReplyItem {
	c.t.Helper()
	r := expect[*broker.ReplyItem](c, op)
	if r.Sequence != sequence || string(r.Body) != body {
		c.t.Fatalf("operation %d: got reply %d %q, want %d %q", op, r.Sequence, r.Body, sequence, body)
	}
	return r
}

// consume registers a consumer with room for many deliveries.
func (c *client) consume(queues ...string) uint64 {
	c.t.Helper()
	op := c.do(&broker.Consume{Queues: queues, MaxInFlight: 100})
	expect[*broker.Started](c, op)
	return op
}

// call enqueues a message with a pipe and attaches to it.
func (c *client) call(queue, body string, o broker.PipeOptions) (op uint64, r *broker.Receipt) {
	c.t.Helper()
	op = c.do(&broker.Enqueue{Queue: queue, Body: []byte(body), Pipe: &o, Call: true})
	return op, expect[*broker.Receipt](c, op)
}

// enqueue stores a message that carries handles.
func (c *client) enqueue(queue string, replyTo handles.Handle, carried ...handles.Handle) *broker.Receipt {
	c.t.Helper()
	e := &broker.Enqueue{Queue: queue, Body: []byte("m"), ReplyTo: replyTo}
	for i, h := range carried {
		e.Cargo.Handles = append(e.Cargo.Handles, broker.NamedHandle{Name: fmt.Sprintf("h%d", i), Handle: h})
	}
	return expect[*broker.Receipt](c, c.do(e))
}

// pipe opens a pipe and returns its handles.
func (c *client) pipe(o broker.PipeOptions) (send, receive handles.Handle) {
	c.t.Helper()
	p := expect[*broker.PipeOpened](c, c.do(&broker.OpenPipe{Options: o}))
	return c.keys.Mint(p.Send), c.keys.Mint(p.Receive)
}

// receive attaches to a pipe.
func (c *client) receive(h handles.Handle, from uint64) uint64 {
	c.t.Helper()
	op := c.do(&broker.Receive{Handle: h, FromSequence: from})
	expect[*broker.Attached](c, op)
	return op
}

// send replies through a handle and checks the outcome.
func (c *client) send(r *broker.Reply, want broker.ReplyOutcome) *broker.ReplyResult {
	c.t.Helper()
	if r.Body != nil && r.Kind == broker.ReplyNothing {
		r.Kind = broker.ReplyPayload
	}
	got := expect[*broker.ReplyResult](c, c.do(r))
	if got.Outcome != want {
		c.t.Fatalf("reply: got outcome %d (%v), want %d", got.Outcome, got.EndReason, want)
	}
	return got
}

func (c *client) settle(d *broker.Delivery, action broker.SettleAction) *broker.Settled {
	c.t.Helper()
	return expect[*broker.Settled](c, c.do(&broker.Settle{Lease: c.keys.Mint(d.Lease), Action: action}))
}

// delivery is a delivery with its handles minted.
type delivery struct {
	*broker.Delivery
	lease, replyTo handles.Handle
}

func (c *client) delivered(op uint64) delivery {
	c.t.Helper()
	d := expect[*broker.Delivery](c, op)
	out := delivery{Delivery: d, lease: c.keys.Mint(d.Lease)}
	if d.ReplyTo.Kind != 0 {
		out.replyTo = c.keys.Mint(d.ReplyTo)
	}
	return out
}
