package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// A history drives a broker with random operations.
type history struct {
	t        *testing.T
	rand     *rand.Rand
	b        *Broker
	journals []*journal.Memory // what the disk has
	slow     []*rand.Rand      // how slow each is
	keys     *handles.KeyRing
	lapsed   atomic.Bool // the lease
	killed   atomic.Bool // nothing more is kept
	calm     atomic.Bool // appends take no time
	standby  *Standby
	begun    []journal.Position // where it began
	temper   temper
	seed     uint64

	clients []*historyClient
	names   int
	send    []handles.Handle
	receive []handles.Handle
	leases  []handles.Handle
	queues  []string
	ids     []MessageID
}

type historyClient struct {
	s        *Session
	id       string
	identity Identity
	op       uint64
	last     []Op // to be repeated after a reconnect
	waiting  map[uint64]bool
}

// A temper is what a history is like.
type temper struct {
	slow     bool // appends take their time, and some so long that the server stalls
	frames   bool // several operations come at once
	restarts bool // the server is stopped, or killed, and started again
	patient  bool // operations wait long
	hasty    bool // little time passes
	tight    bool // there is little room
	mixed    bool // several tenants and principals
}

func temperOf(seed uint64) temper {
	r := rand.New(rand.NewPCG(seed, 1))
	some := func() bool { return r.IntN(3) == 0 }
	return temper{slow: some(), frames: some(), restarts: some(), patient: some(), hasty: some(), tight: some(), mixed: some()}
}

func newHistory(t *testing.T, seed uint64, shards int) *history {
	t.Helper()
	h := &history{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), queues: []string{"a", "b", "c", "d.x"}, temper: temperOf(seed), seed: seed,
		standby: NewStandby(9, shards), begun: make([]journal.Position, shards),
	}
	for i := range shards {
		h.journals = append(h.journals, &journal.Memory{})
		h.slow = append(h.slow, rand.New(rand.NewPCG(seed, uint64(2+i))))
	}
	var err error
	if h.keys, err = handles.NewEphemeral(); err != nil {
		t.Fatal(err)
	}
	h.open()
	for range 4 {
		h.join()
	}
	return h
}

// A historyJournal is a shard's journal while one server runs. Appends may take their time, and what is not kept when the server
// is killed never will be.
type historyJournal struct {
	*journal.Memory
	h     *history
	shard uint16
}

// Append implements journal.Journal.
func (j historyJournal) Append(ctx context.Context, batch []byte) (journal.Position, error) {
	if slow := j.h.slow[j.shard]; j.h.temper.slow && !j.h.calm.Load() {
		most := 100 * time.Millisecond
		if slow.IntN(50) == 0 {
			most = 10 * time.Second
		}
		time.Sleep(time.Duration(slow.Int64N(int64(most))))
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if j.h.killed.Load() {
		return 0, errKilled
	}
	return j.Memory.Append(context.Background(), batch)
}

// Close implements journal.Journal. The next server goes on with the same.
func (historyJournal) Close() error { return nil }

var errKilled = errors.New("killed")

func (h *history) open() {
	h.t.Helper()
	lease := func() bool { return !h.lapsed.Load() }
	cfg := Config{Shards: len(h.journals), Store: 9, Lease: lease, Journal: func(shard uint16) (journal.Journal, error) {
		return historyJournal{h.journals[shard], h, shard}, nil
	}}
	if h.temper.tight {
		cfg.MemoryLimit, cfg.MaxKeys, cfg.Quota.Pipes, cfg.MaxUnkept = 60_000, 2, 20, 2_000
	}
	b, err := Open(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.b = b
	if h.seed%2 == 0 { // one round after the other, each of several appends
		for _, r := range b.runners {
			r.mu.Lock()
			r.keeper.log.slack, r.keeper.log.least, r.keeper.log.most = math.MinInt64/2, 1, 1+h.rand.IntN(2_000)
			r.mu.Unlock()
		}
	}
}

// restart stops the server, or kills it: then the journals have what they had kept by that time. Its clients come back.
func (h *history) restart() {
	if h.chance(50) {
		h.killed.Store(true)
	}
	_ = h.b.Close() // which fails if it was killed
	h.killed.Store(false)
	h.open()
	for _, c := range h.clients {
		h.reconnect(c)
	}
}

func (h *history) close() {
	h.calm.Store(true)
	<-time.After(10 * time.Second) // by then no append takes long any more
	for _, c := range h.clients {
		c.s.Close()
	}
	if err := h.b.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *history) join() {
	h.names++
	c := &historyClient{
		id: fmt.Sprintf("client-%d-of-this-history", h.names), waiting: make(map[uint64]bool), identity: Identity{Tenant: 1, Principal: "p"},
	}
	if h.temper.mixed {
		c.identity = Identity{Tenant: 1 + uint32(h.names/3), Principal: []string{"p", "q"}[h.names%2]}
	}
	c.s = h.b.Attach(c.identity, SessionOptions{ID: []byte(c.id)})
	h.clients = append(h.clients, c)
}

func pick[T any](h *history, from []T) (T, bool) {
	if len(from) == 0 {
		var zero T
		return zero, false
	}
	// Mostly what is new, since what is old is mostly gone.
	i := len(from) - 1 - int(float64(len(from))*h.rand.Float64()*h.rand.Float64())
	return from[max(i, 0)], true
}

func (h *history) chance(percent int) bool { return h.rand.IntN(100) < percent }

func (h *history) queue() string { return h.queues[h.rand.IntN(len(h.queues))] }

// step does one random thing, lets it settle, and takes in what came of it.
func (h *history) step() {
	c := h.clients[h.rand.IntN(len(h.clients))]
	switch n := h.rand.IntN(100); {
	case n < 1 && h.temper.restarts:
		h.restart()
	case n < 4:
		most := 40 * time.Second
		if h.temper.hasty {
			most = time.Second
		}
		<-time.After(time.Duration(h.rand.Int64N(int64(most))))
	case n < 7:
		h.reconnect(c)
	case n < 8 && len(c.waiting) > 0:
		for op := range c.waiting {
			c.s.Detach(op)
			delete(c.waiting, op)
			break
		}
	case n < 9:
		h.lapse(c)
	case n < 20:
		h.credit(c)
	default:
		var ops []Op
		for more := true; more; more = h.temper.frames && h.chance(60) {
			if r := h.request(); r != nil {
				op := Op{Credit: uint32(h.rand.IntN(3)), Timeout: time.Duration(h.rand.IntN(2)) * time.Second, Request: r}
				if h.temper.patient {
					op.Timeout *= 20
				}
				ops = append(ops, op)
			}
		}
		h.submit(c, ops...)
	}
	synctest.Wait()
	for _, c := range h.clients {
		h.takeIn(c)
	}
	if h.chance(10) {
		h.readAlong()
	}
}

// lapse does something without a lease.
func (h *history) lapse(c *historyClient) {
	h.lapsed.Store(true)
	if r := h.request(); r != nil {
		h.submit(c, Op{Credit: 1, Request: r})
	}
	synctest.Wait()
	h.lapsed.Store(false)
}

func (h *history) submit(c *historyClient, ops ...Op) {
	for i := range ops {
		op := &ops[i]
		c.op++
		op.ID = c.op
		if r, ok := op.Request.(*Consume); ok {
			r.MaxInFlight = 1 + uint32(h.rand.IntN(4))
		}
		c.waiting[op.ID] = true
	}
	c.last = append(c.last, ops...)
	if n := len(c.last) - 3; n > 0 {
		c.last = c.last[n:]
	}
	c.s.Submit(ops)
}

// reconnect cuts a client, and repeats what it did last, as one does that had no answer.
func (h *history) reconnect(c *historyClient) {
	if h.chance(50) {
		c.s.Close()
	}
	h.takeIn(c)
	c.s = h.b.Attach(c.identity, SessionOptions{ID: []byte(c.id)})
	clear(c.waiting)
	for _, op := range c.last {
		c.waiting[op.ID] = true
	}
	c.s.Submit(c.last)
}

func (h *history) credit(c *historyClient) {
	for op := range c.waiting {
		c.s.Credit(op, 1+uint32(h.rand.IntN(3)))
		return
	}
}

func (h *history) messages() (ids []MessageID) {
	for range h.rand.IntN(4) {
		if id, ok := pick(h, h.ids); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// takeIn keeps the handles that events bring.
func (h *history) takeIn(c *historyClient) {
	for _, e := range c.s.Take(nil) {
		if e.Done {
			delete(c.waiting, e.Op)
		}
		switch body := e.Body.(type) {
		case *Receipt:
			h.ids = append(h.ids, body.Message)
			if body.Receive.Kind != 0 {
				h.receive = append(h.receive, h.keys.Mint(body.Receive))
			}
		case *PipeOpened:
			h.send, h.receive = append(h.send, h.keys.Mint(body.Send)), append(h.receive, h.keys.Mint(body.Receive))
		case *Delivery:
			h.leases = append(h.leases, h.keys.Mint(body.Lease))
			if body.ReplyTo.Kind != 0 {
				h.send = append(h.send, h.keys.Mint(body.ReplyTo))
			}
		case *End:
			if h.chance(80) {
				c.s.Passed(e.Op)
				c.s.Flush()
			}
		}
	}
}
