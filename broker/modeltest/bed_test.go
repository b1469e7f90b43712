package modeltest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/journalflag"
)

// A bed is a broker in a bubble, with three clients: one that produces and reads, one whose events are in one order for
// all its consumers, and one that only looks.
type bed struct {
	t        *rapid.T
	b        *broker.Broker
	keys     *handles.KeyRing
	shards   int
	producer *client
	worker   *client
	viewer   *client
	m        *model
}

// inBed runs a random history against a broker and the model beside it.
func inBed(t *testing.T, shards int, actions func(*bed) map[string]func(*rapid.T)) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat it: go test ./broker/modeltest, with the -run and -rapid.seed that stand above")
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		rapid.SyncTest(rt, func(rt *rapid.T) {
			cfg := broker.Config{Shards: shards, Store: 7, Rand: rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})}
			journalflag.Set(t, &cfg)
			b, err := broker.Open(cfg)
			if err != nil {
				rt.Fatalf("Open: %v", err)
			}
			keys, err := handles.NewEphemeral()
			if err != nil {
				rt.Fatalf("NewEphemeral: %v", err)
			}
			d := &bed{t: rt, b: b, keys: keys, shards: shards}
			d.m = newModel(d)
			d.producer, d.worker, d.viewer = d.attach("producer"), d.attach("worker"), d.attach("viewer")
			defer func() {
				for _, c := range []*client{d.producer, d.worker, d.viewer} {
					c.s.Close()
				}
				if err := b.Close(); err != nil {
					rt.Errorf("Close: %v", err)
				}
			}()
			rt.Repeat(actions(d))
			d.endAll()
		})
	})
}

func (d *bed) now() broker.Time { return broker.TimeOf(time.Now()) }

// A client is a session with its calls.
type client struct {
	bed   *bed
	name  string
	s     *broker.Session
	op    uint64
	calls map[uint64]*call
	// order has the events of all calls in the order in which they came.
	order []broker.Event
}

func (d *bed) attach(name string) *client {
	s := d.b.Attach(broker.Identity{Tenant: 1, Principal: "p"}, broker.SessionOptions{ID: []byte(name)})
	return &client{bed: d, name: name, s: s, calls: make(map[uint64]*call)}
}

// A call is an operation, with what it is still to be told.
type call struct {
	client *client
	op     broker.Op
	wants  []want
	// told is what has come and was not looked at yet.
	told []broker.Event
	done bool
	// At most one of these: what the call is in the model.
	consumer *consumer
	reader   *reader
}

// A want is one event that must come.
type want struct {
	what string
	// match says what is wrong with an event; empty if nothing is.
	match func(e broker.Event) string
}

func (k *call) want(what string, match func(e broker.Event) string) {
	k.wants = append(k.wants, want{what, match})
}

// wantBody wants an event of one kind, for which match says what is wrong.
func wantBody[T any](c *call, done bool, what string, match func(T) string) {
	c.want(what, func(e broker.Event) string {
		body, ok := e.Body.(T)
		if !ok {
			return fmt.Sprintf("is a %T", e.Body)
		}
		if e.Done != done {
			return fmt.Sprintf("done is %v", e.Done)
		}
		return match(body)
	})
}

// refuse wants the operation to be refused with one of some reasons.
func (k *call) refuse(reasons ...broker.Reason) {
	wantBody(k, true, fmt.Sprintf("a refusal with %v", reasons), func(err *broker.Error) string {
		for _, r := range reasons {
			if err.Reason == r {
				return ""
			}
		}
		return "is " + err.Error()
	})
}

// wasRefused reports whether the operation has been refused so already, where the contract leaves that open.
func (k *call) wasRefused(reason broker.Reason) bool {
	k.client.collect()
	if len(k.told) == 0 {
		return false
	}
	err, ok := k.told[0].Body.(*broker.Error)
	return ok && err.Reason == reason
}

// do submits an operation; the model has not seen it yet.
func (c *client) do(op broker.Op) *call {
	c.op++
	op.ID = c.op
	return c.again(op)
}

// again submits an operation under a number that it may have had before.
func (c *client) again(op broker.Op) *call {
	k := &call{client: c, op: op}
	c.calls[op.ID] = k
	c.bed.t.Logf("%v %s, operation %d: %T %+v", c.bed.now().Std().UTC().Format("04:05.000"), c.name, op.ID, op.Request, op.Request)
	switch r := op.Request.(type) {
	case *broker.Settle:
		for _, reply := range r.Replies {
			c.bed.t.Logf("  with %+v", *reply)
		}
		for _, e := range r.Messages {
			c.bed.t.Logf("  with %+v", *e)
		}
	case *broker.Enqueue:
		if r.Pipe != nil {
			c.bed.t.Logf("  with %+v", *r.Pipe)
		}
	}
	c.s.Submit([]broker.Op{op})
	return k
}

// collect takes what has come for the client's calls.
func (c *client) collect() {
	for _, e := range c.s.Take(nil) {
		c.order = append(c.order, e)
		k := c.calls[e.Op]
		if k == nil {
			c.bed.t.Fatalf("%s: an event %T for operation %d, which has ended", c.name, e.Body, e.Op)
		}
		if k.done {
			c.bed.t.Fatalf("%s: an event %T for operation %d after its last one", c.name, e.Body, e.Op)
		}
		k.done = e.Done
		k.told = append(k.told, e)
	}
}

// settle lets the broker come to rest and holds what came of the last operation against the model.

func (d *bed) settle() {

	synctest.Wait()
	d.absorb()
	d.compare()
}

// advance lets time pass, from one moment at which the model has something due to the next.
func (d *bed) advance(by time.Duration) {
	d.t.Logf("%v is let pass", by)
	d.m.timed = true
	defer func() { d.m.timed = false }()
	end := d.now().Add(by)
	for d.now() < end {
		next := end
		if due := d.m.nextDue(); due != 0 && due < next {
			next = due
		}
		if wait := time.Duration(next - d.now()); wait > 0 {
			time.Sleep(wait)
		}
		synctest.Wait()
		d.absorb()
	}
	d.compare()
}
