package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// TestUsageIsHonest: what the broker says that it keeps is what the heap has more, for many of each thing.
func TestUsageIsHonest(t *testing.T) {
	const tolerance = 0.2
	payload := func(n int) []byte { return make([]byte, n) }
	for _, test := range []struct {
		name string
		n    int
		each func(u *user, i int)
	}{
		{"messages of 128 bytes", 100_000, func(u *user, _ int) {
			u.do(&broker.Enqueue{Queue: "q", Body: payload(128)})
		}},
		{"messages of 5000 bytes", 10_000, func(u *user, _ int) {
			u.do(&broker.Enqueue{Queue: "q", Body: payload(5000)})
		}},
		{"messages with a group", 50_000, func(u *user, _ int) {
			u.do(&broker.Enqueue{Queue: "q", Body: payload(100), Group: "g", Priority: 5})
		}},
		{"calls", 100_000, func(u *user, _ int) {
			u.do(&broker.Enqueue{Queue: "q", Body: payload(128), Pipe: &broker.PipeOptions{}})
		}},
		{"pipes", 100_000, func(u *user, _ int) { u.do(&broker.OpenPipe{}) }},
		{"pipes with options", 100_000, func(u *user, _ int) {
			u.do(&broker.OpenPipe{Options: broker.PipeOptions{CapacityReplies: 5}})
		}},
		{"replies of 200 bytes, one to a pipe", 50_000, func(u *user, _ int) {
			u.reply(u.open(), &broker.Reply{Kind: broker.ReplyPayload, Body: payload(200), More: true})
		}},
		{"replies of 200 bytes, in one pipe", 60_000, func(u *user, i int) {
			if i == 0 {
				u.pipe = u.open()
			}
			u.reply(u.pipe, &broker.Reply{Kind: broker.ReplyPayload, Body: payload(200), More: true})
		}},
		{"ends of 1000 bytes", 20_000, func(u *user, _ int) {
			u.reply(u.open(), &broker.Reply{Kind: broker.ReplyError, Body: payload(1000)})
		}},
		{"keys", 50_000, func(u *user, i int) {
			key := &broker.Key{}
			copy(key.ID[:], fmt.Sprint(i))
			u.do(&broker.Enqueue{Queue: "q", Body: payload(16), Key: key})
		}},
		{"queues", 20_000, func(u *user, i int) {
			u.do(&broker.Enqueue{Queue: fmt.Sprintf("queue-%d", i), Body: payload(16)})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := broker.Open(broker.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			u := newUser(t, b, 1)
			heap, kept := liveHeap(), b.MemoryUsed()
			for i := range test.n {
				test.each(u, i)
			}
			grown, said := float64(liveHeap()-heap), float64(b.MemoryUsed()-kept)
			t.Logf("%.0f bytes each on the heap, %.0f counted", grown/float64(test.n), said/float64(test.n))
			if said < grown*(1-tolerance) || said > grown*(1+tolerance) {
				t.Errorf("%d of them: the heap has %.0f bytes more, %.0f were counted: over %.0f %% off", test.n, grown, said, tolerance*100)
			}
		})
	}
}

// A user is a session that does one operation after the other, and looks at its answer.
type user struct {
	t    *testing.T
	s    *broker.Session
	keys *handles.KeyRing
	op   uint64
	pipe handles.Handle
	left []broker.Event // the last answer
}

func newUser(t *testing.T, b *broker.Broker, tenant uint32) *user {
	keys, err := handles.NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	s := b.Attach(broker.Identity{Tenant: tenant, Principal: "p"}, broker.SessionOptions{})
	t.Cleanup(s.Close)
	return &user{t: t, s: s, keys: keys}
}

// try does an operation and returns the body of its first event.
func (u *user) try(r broker.Request) any {
	u.t.Helper()
	u.op++
	u.s.Submit([]broker.Op{{ID: u.op, Request: r}})
	u.left = u.s.Take(u.left[:0])
	for _, e := range u.left {
		if e.Op == u.op {
			return e.Body
		}
	}
	u.t.Fatalf("%T has no answer", r)
	return nil
}

// do does an operation that must not be refused.
func (u *user) do(r broker.Request) any {
	u.t.Helper()
	body := u.try(r)
	if err, ok := body.(*broker.Error); ok {
		u.t.Fatalf("%T: %v", r, err)
	}
	return body
}

func (u *user) open() handles.Handle {
	u.t.Helper()
	p, ok := u.do(&broker.OpenPipe{Options: broker.PipeOptions{CapacityReplies: 1 << 16, CapacityBytes: 1 << 26}}).(*broker.PipeOpened)
	if !ok {
		u.t.Fatal("no pipe was opened")
	}
	return u.keys.Mint(p.Send)
}

func (u *user) reply(h handles.Handle, r *broker.Reply) {
	u.t.Helper()
	r.Handle = h
	u.do(r)
}

// until does an operation until it is refused, and returns how often it was not, and the refusal.
func (u *user) until(most int, r func() broker.Request) (n int, refused *broker.Error) {
	u.t.Helper()
	for n = range most {
		if err, ok := u.try(r()).(*broker.Error); ok {
			return n, err
		}
	}
	return most, nil
}

func (u *user) wantRefusal(err *broker.Error, want broker.Reason) {
	u.t.Helper()
	if err == nil {
		u.t.Fatalf("nothing was refused, want %s", want)
	}
	if err.Reason != want || err.Code != broker.CodeResourceExhausted || err.RetryAfter <= 0 {
		u.t.Fatalf("got %v (code %v, retry after %v), want RESOURCE_EXHAUSTED %s and a time to wait", err, err.Code, err.RetryAfter, want)
	}
}

const kib = 1 << 10

func kibMessage() broker.Request { return &broker.Enqueue{Queue: "q", Body: make([]byte, kib)} }

// TestMemoryMarks: who has most is stopped at 70 %, others at 85 %, and what frees memory never; then there is room.
func TestMemoryMarks(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) { testMemoryMarks(t, shards) })
	}
}

func testMemoryMarks(t *testing.T, shards int) {
	const limit = 4 << 20
	b, err := broker.Open(broker.Config{MemoryLimit: limit, Shards: shards})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	within := func(percent int64) {
		t.Helper()
		if used := b.MemoryUsed(); used > limit*percent/100 || used < limit*(percent-2)/100 {
			t.Errorf("%d of %d bytes are used, want %d %%, or a little less", used, limit, percent)
		}
	}
	noisy, quiet := newUser(t, b, 1), newUser(t, b, 2)
	pipe := noisy.open()
	quiet.do(kibMessage())
	_, refused := noisy.until(limit/kib, kibMessage)
	noisy.wantRefusal(refused, broker.ReasonServerOverloaded)
	within(70)
	for _, r := range []broker.Request{
		&broker.OpenPipe{}, &broker.Enqueue{Queue: "new", Body: make([]byte, kib)},
		&broker.Enqueue{Queue: "q", Body: make([]byte, 2*kib), Pipe: &broker.PipeOptions{}, Call: true},
	} {
		if err, ok := noisy.try(r).(*broker.Error); !ok || err.Reason != broker.ReasonServerOverloaded {
			t.Errorf("%T of who has most at 70 %%: %v, want SERVER_OVERLOADED", r, err)
		}
	}
	n, refused := quiet.until(limit/kib, kibMessage)
	quiet.wantRefusal(refused, broker.ReasonServerOverloaded)
	if n < limit/kib/20 {
		t.Errorf("the quiet tenant could enqueue %d more while the noisy one was stopped, want what is between the marks", n)
	}
	within(85)
	// At the limit: a reply that leaves its pipe open is refused, one that ends it is not.
	reply := &broker.Reply{Handle: pipe, Kind: broker.ReplyPayload, Body: make([]byte, 20*kib), More: true}
	if err, ok := noisy.try(reply).(*broker.Error); !ok || err.Reason != broker.ReasonServerOverloaded {
		t.Errorf("Reply with more at 85 %%: %v, want SERVER_OVERLOADED", err)
	}
	reply.More = false
	noisy.do(reply)
	// A Settle may carry messages.
	worker := newUser(t, b, 1)
	worker.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 10_000})
	freed := 0
	for _, e := range append(worker.s.Take(nil), worker.left...) {
		if d, ok := e.Body.(*broker.Delivery); ok {
			settle := &broker.Settle{Lease: worker.keys.Mint(d.Lease), Action: broker.Ack}
			if freed == 0 {
				settle.Messages = []*broker.Enqueue{{Queue: "next", Body: make([]byte, kib)}}
			}
			worker.do(settle)
			freed++
		}
	}
	if freed < 1000 {
		t.Fatalf("%d messages were delivered and settled, want all", freed)
	}
	noisy.do(kibMessage())
}

// TestTenantQuota: each bound of a tenant is at its figure, and for that tenant only.
func TestTenantQuota(t *testing.T) {
	const pipes, bytes = 1000, 1 << 20
	b, err := broker.Open(broker.Config{Quota: broker.Quota{Bytes: bytes, Pipes: pipes, Sessions: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	one, other := newUser(t, b, 1), newUser(t, b, 2)
	first, second := one.open(), one.open()
	n, refused := one.until(2*pipes, func() broker.Request { return &broker.OpenPipe{} })
	one.wantRefusal(refused, broker.ReasonPipeQuota)
	if n != pipes-2 {
		t.Errorf("%d pipes could be opened, want %d", n+2, pipes)
	}
	if err, ok := one.try(&broker.Enqueue{Queue: "q", Pipe: &broker.PipeOptions{}, Call: true}).(*broker.Error); !ok || err.Reason != broker.ReasonPipeQuota {
		t.Errorf("Call over the quota: %v, want PIPE_QUOTA", err)
	}
	one.do(&broker.Enqueue{Queue: "q"}) // has no pipe
	other.open()
	one.reply(first, &broker.Reply{})
	one.reply(second, &broker.Reply{})
	one.do(&broker.OpenPipe{})

	_, refused = one.until(bytes/kib, kibMessage)
	one.wantRefusal(refused, broker.ReasonTenantQuota)
	if u := b.Usage(1); u.Total() > bytes || u.Total() < bytes-4*kib || u.Pipes != pipes-1 {
		t.Errorf("the tenant has %d bytes and %d pipes, want %d, or a little less, and %d", u.Total(), u.Pipes, bytes, pipes-1)
	}
	other.do(kibMessage())

	var done func()
	for range 2 {
		if done, refused = b.OpenSession(1); refused != nil {
			t.Fatal(refused)
		}
	}
	_, refused = b.OpenSession(1)
	one.wantRefusal(refused, broker.ReasonTenantQuota)
	if _, refused := b.OpenSession(2); refused != nil {
		t.Errorf("another tenant's session: %v", refused)
	}
	done()
	done() // once is enough
	if _, refused := b.OpenSession(1); refused != nil {
		t.Errorf("after one has ended: %v", refused)
	}
}

// TestPressed: under pressure pipes that were read, and replies that were passed, are not kept for who may ask again.
func TestPressed(t *testing.T) {
	const limit = 8 << 20
	b, err := broker.Open(broker.Config{MemoryLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	u := newUser(t, b, 1)
	read := func(o broker.PipeOptions, credit uint32) (h handles.Handle, op uint64) {
		p, ok := u.do(&broker.OpenPipe{Options: o}).(*broker.PipeOpened)
		if !ok {
			t.Fatal("no pipe was opened")
		}
		u.op++
		u.s.Submit([]broker.Op{{ID: u.op, Credit: credit, Request: &broker.Receive{Handle: u.keys.Mint(p.Receive)}}})
		return u.keys.Mint(p.Send), u.op
	}
	for range 4 * limit / (64 * kib) { // four times what there is room for
		h, op := read(broker.PipeOptions{Timeout: time.Hour, Retain: time.Hour}, 10)
		u.reply(h, &broker.Reply{Kind: broker.ReplyPayload, Body: make([]byte, 64*kib)})
		u.s.Passed(op)
	}
	h, op := read(broker.PipeOptions{CapacityReplies: 1 << 16, CapacityBytes: 64 << 20}, 1)
	for range 4 * limit / (64 * kib) {
		u.reply(h, &broker.Reply{Kind: broker.ReplyPayload, Body: make([]byte, 64*kib), More: true})
		u.s.Credit(op, 1)
	}
	if used := b.MemoryUsed(); used > limit*70/100 {
		t.Errorf("%d of %d bytes are used: what was read is still there", used, limit)
	}
}
