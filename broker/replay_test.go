package broker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only this seed of the random histories")
	seedsFlag = flag.Int("seeds", 300, "how many random histories to run")
	stepsFlag = flag.Int("steps", 200, "how long each is")
)

// TestReplayRebuildsTheShard runs random histories and checks that the facts in each shard's journal, replayed, give the
// identical durable state, and so does what was read along meanwhile; and that what each shard keeps beside it is consistent.
func TestReplayRebuildsTheShard(t *testing.T) {
	seeds := make([]uint64, 0, *seedsFlag)
	for i := range *seedsFlag {
		seeds = append(seeds, uint64(i+1))
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	trimmed, behind := 0, 0
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, seed, 1+int(seed%3))
			for range *stepsFlag {
				h.step()
			}
			h.check()
			trimmed += h.trimmed()
			behind += h.behindTrimmed()
			if t.Failed() {
				t.Logf("run again with: go test ./broker -run %s -seed %d", t.Name(), seed)
			}
			h.close()
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d journals were trimmed, %d of them behind who read along", trimmed, behind)
	if trimmed < len(seeds)/3 || behind < len(seeds)/10 {
		t.Errorf("%d journals were trimmed in %d histories, %d of them behind who read along", trimmed, len(seeds), behind)
	}
}

// behindTrimmed is how many journals have lost something that the standby had read.
func (h *history) behindTrimmed() (n int) {
	for i := range h.journals {
		if first := h.first(i); h.standby.shards[i].next > first && h.begun[i] < first {
			n++
		}
	}
	return n
}

// first is the position of the first batch that a journal has; 0 if it has none.
func (h *history) first(shard int) journal.Position {
	for r, err := range h.journals[shard].Read(h.t.Context(), 0) {
		if err != nil {
			h.t.Fatal(err)
		}
		return r.Position
	}
	return 0
}

// readAlong has the standby read what there is by now, or begin anew if it comes too late for that.
func (h *history) readAlong() {
	for i, j := range h.journals {
		first := h.first(i)
		if s := &h.standby.shards[i]; s.next < first {
			*s, h.begun[i] = standbyShard{st: newState(uint16(i), h.b.store)}, first
		}
		if err := h.standby.Replay(i, j.Read(h.t.Context(), h.standby.shards[i].next)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// trimmed is how many journals have lost their head.
func (h *history) trimmed() (n int) {
	for i := range h.journals {
		if h.first(i) > 1 {
			n++
		}
	}
	return n
}

// A history drives a broker with random operations.
type history struct {
	t        *testing.T
	rand     *rand.Rand
	b        *Broker
	journals []*journal.Memory
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
		slow := rand.New(rand.NewPCG(seed, uint64(2+i)))
		h.journals = append(h.journals, &journal.Memory{BeforeAppend: func([]byte) error {
			if h.temper.slow && !h.calm.Load() {
				most := 100 * time.Millisecond
				if slow.IntN(50) == 0 {
					most = 10 * time.Second
				}
				time.Sleep(time.Duration(slow.Int64N(int64(most))))
			}
			if h.killed.Load() {
				return errKilled
			}
			return nil
		}})
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

var errKilled = errors.New("killed")

func (h *history) open() {
	h.t.Helper()
	lease := func() bool { return !h.lapsed.Load() }
	cfg := Config{Shards: len(h.journals), Store: 9, Lease: lease, Journal: func(shard uint16) (journal.Journal, error) {
		return h.journals[shard], nil
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
	for i, j := range h.journals {
		h.journals[i] = j.Reopen()
	}
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

// check compares each shard with what its journal gives.
func (h *history) check() {
	h.t.Helper()
	h.calm.Store(true)
	if h.temper.restarts { // what was leased before one is not any more
		<-time.After(orphanWait + time.Minute)
	}
	<-time.After(30 * time.Second) // all appends have ended, and nothing is put off any more because of one that took too long
	synctest.Wait()
	h.checkEdges()
	h.checkForeign()
	h.readAlong()
	for i, r := range h.b.runners {
		r.mu.Lock()
		replayed := newState(r.number, h.b.store)
		facts := 0
		for record, err := range h.journals[i].Read(context.Background(), 0) {
			if err == nil {
				err = replayed.replay(record.Batch)
			}
			if err != nil {
				h.t.Fatal(err)
			}
			facts++
		}
		if err := replayed.derive(); err != nil {
			h.t.Fatal(err)
		}
		along := h.standby.shards[i].st
		if err := along.derive(); err != nil {
			h.t.Fatal(err)
		}
		if facts == 0 && r.shard.st.messages.top > 0 {
			h.t.Errorf("shard %d: nothing was journalled", i)
		}
		same := cmp.Options{cmpopts.EquateEmpty(), inAnyOrder(), cmp.AllowUnexported(
			durableState{}, queue{}, message{}, pipe{}, pipeConfig{}, content{}, pipeRare{}, pipeRef{}, carriers{}, carrier{}, carrierRef{}, reply{}, carriedHandle{}, feed{}, byID{},
			messageExtras{}, attempt{}, outcomes{}, outcome{}, settledLease{}, sentEntry{}, usedKey{}, keyRef{}, relatives{}, freeQueue{},
		), cmpopts.IgnoreTypes(liveQueue{}, liveMessage{}, liveExtras{}, livePipe{}, liveOutcomes{})}
		if diff := cmp.Diff(durable(r.shard.st), durable(replayed), same); diff != "" {
			h.t.Errorf("shard %d: replayed state differs (-live +replayed):\n%s", i, diff)
		}
		if diff := cmp.Diff(durable(r.shard.st), durable(along), same); diff != "" {
			h.t.Errorf("shard %d: the state that was read along differs (-live +along):\n%s", i, diff)
		}
		for _, st := range []*state{replayed, along} {
			if d := durable(st); st.messages.replayed != len(d.messages) || st.pipes.replayed != len(d.pipes) {
				h.t.Errorf("shard %d: a replay counted %d messages and %d pipes, but there are %d and %d",
					i, st.messages.replayed, st.pipes.replayed, len(d.messages), len(d.pipes))
			}
		}
		checkConsistent(h.t, r.shard, false)
		restored := newShard(r.number, h.b.store, r.shard.now, h.rand.Uint64)
		restored.st = replayed
		restored.restore()
		checkConsistent(h.t, restored, true)
		r.mu.Unlock()
	}
}

// inAnyOrder compares what has no order, or no certain one among things of the same time.
func inAnyOrder() cmp.Option {
	return cmp.Options{
		cmp.Transformer("carriers", func(c carriers) (all []carrier) {
			for i := range c.len() {
				all = append(all, *c.at(i))
			}
			slices.SortFunc(all, func(a, b carrier) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			return all
		}),
		cmp.Transformer("rare", func(r *pipeRare) pipeRare {
			if r == nil {
				return pipeRare{}
			}
			return *r
		}),
		cmpopts.IgnoreFields(content{}, "one"), // memory of replies
		cmpopts.SortSlices(func(a, b settledLease) bool { return cmpSettled(a, b) < 0 }),
	}
}

// durableState is a state without the order in which slots became free.
type durableState struct {
	queues   []queue
	free     []freeQueue
	messages []message
	pipes    []pipe
	sessions []*outcomes
	inbox    map[uint16]uint64
	outbox   []sentEntry
	settled  []settledLease
	keys     []usedKey
	related  map[uint32]*relatives
	order    uint64
}

type sentEntry struct {
	target uint16
	last   uint64
	left   int
}

func durable(st *state) durableState {
	d := durableState{sessions: st.sessions, inbox: st.inbox, settled: st.settled.entries[st.settled.start:], keys: st.keys.entries[st.keys.start:], related: st.relatives, order: st.order}
	for n := len(d.sessions); n > 0 && d.sessions[n-1] == nil; n-- { // a trimmed journal does not tell of those forgotten last
		d.sessions = d.sessions[:n-1]
	}
	d.free = st.freeQueues
	for _, q := range st.queues {
		if q != nil {
			one := *q
			one.dead = slices.Sorted(slices.Values(q.dead))
			d.queues = append(d.queues, one)
		}
	}
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		if m := *st.messages.at(slot); m.state > messageReserved {
			d.messages = append(d.messages, m)
		}
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		if p := *st.pipes.at(slot); p.state != pipeFree {
			if p.content != nil { // where its replies lie does not matter
				c := *p.content
				c.replies, c.head = c.kept(), 0
				p.content = &c
			}
			d.pipes = append(d.pipes, p)
		}
	}
	for target := range uint16(8) {
		if o := st.outbox[target]; o != nil {
			d.outbox = append(d.outbox, sentEntry{target, o.last, len(o.entries)})
		}
	}
	return d
}
