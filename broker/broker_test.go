package broker_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// client is a test's session: it mints handles as the server does and waits for events.
type client struct {
	t    *testing.T
	b    *broker.Broker
	keys *handles.KeyRing
	s    *broker.Session
	op   uint64
	got  []broker.Event
}

func (c *client) do(credit uint32, r broker.Request) uint64 {
	c.t.Helper()
	c.op++
	c.s.Submit([]broker.Op{{ID: c.op, Credit: credit, Request: r}})
	return c.op
}

// next waits for the next event of an operation.
func (c *client) next(op uint64) broker.Event {
	c.t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		c.got = c.s.Take(c.got)
		for i, e := range c.got {
			if e.Op == op {
				c.got = append(c.got[:i:i], c.got[i+1:]...)
				return e
			}
		}
		select {
		case <-c.s.Ready():
		case <-deadline:
			c.t.Fatalf("operation %d: no event within 5 s; others waiting: %d", op, len(c.got))
		}
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

func open(t *testing.T, cfg broker.Config) (*broker.Broker, *handles.KeyRing) {
	t.Helper()
	b, err := broker.Open(cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	keys, err := handles.NewEphemeral()
	if err != nil {
		t.Fatalf("NewEphemeral: %v", err)
	}
	return b, keys
}

func attach(t *testing.T, b *broker.Broker, keys *handles.KeyRing, id string) *client {
	t.Helper()
	s := b.Attach(broker.Identity{Tenant: 1, TenantName: "default", Principal: "p"}, broker.SessionOptions{ID: []byte(id)})
	t.Cleanup(s.Close)
	return &client{t: t, b: b, keys: keys, s: s}
}

func TestCallIsAnswered(t *testing.T) {
	b, keys := open(t, broker.Config{})
	worker, caller := attach(t, b, keys, "w"), attach(t, b, keys, "c")
	consume := worker.do(0, &broker.Consume{Queues: []string{"q"}, MaxInFlight: 2})
	expect[*broker.Started](worker, consume)
	call := caller.do(10, &broker.Enqueue{Queue: "q", Body: []byte("2+2"), Pipe: &broker.PipeOptions{}, Call: true})
	receipt := expect[*broker.Receipt](caller, call)
	d := expect[*broker.Delivery](worker, consume)
	if d.Message != receipt.Message || string(d.Body) != "2+2" || d.Attempt != 1 {
		t.Fatalf("delivery: got %+v", d)
	}
	reply := worker.do(0, &broker.Reply{
		Handle: keys.Mint(d.ReplyTo), Kind: broker.ReplyPayload, Body: []byte("4"), Lease: keys.Mint(d.Lease), Ack: true,
	})
	if r := expect[*broker.ReplyResult](worker, reply); r.Outcome != broker.ReplyDelivered || r.Sequence != 1 {
		t.Errorf("reply: got %+v, want DELIVERED with sequence 1", r)
	}
	if r := expect[*broker.ReplyItem](caller, call); string(r.Body) != "4" || r.Sequence != 1 || r.Source != d.Message {
		t.Errorf("reply item: got %+v", r)
	}
	if e := expect[*broker.End](caller, call); e.Reason != broker.EndOK || e.LastSequence != 1 {
		t.Errorf("end: got %+v, want OK after 1", e)
	}
}
