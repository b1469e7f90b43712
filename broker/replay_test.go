package broker

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
)

// TestReplayRebuildsTheShard runs random histories and checks that the facts in each shard's journal, replayed, give the
// identical durable state; and that what each shard keeps beside it is consistent.
func TestReplayRebuildsTheShard(t *testing.T) {
	seeds := make([]uint64, 0, *seedsFlag)
	for i := range *seedsFlag {
		seeds = append(seeds, uint64(i+1))
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, seed, 1+int(seed%3))
			for range 200 {
				h.step()
			}
			h.check()
			if t.Failed() {
				t.Logf("run again with: go test ./broker -run %s -seed %d", t.Name(), seed)
			}
			h.close()
		})
		if t.Failed() {
			return
		}
	}
}

// A history drives a broker with random operations.
type history struct {
	t        *testing.T
	rand     *rand.Rand
	b        *Broker
	journals []*journal.Memory
	keys     *handles.KeyRing

	clients []*historyClient
	names   int
	send    []handles.Handle
	receive []handles.Handle
	leases  []handles.Handle
	queues  []string
	ids     []MessageID
}

type historyClient struct {
	s       *Session
	id      string
	op      uint64
	last    []Op // to be repeated after a reconnect
	waiting map[uint64]bool
}

func newHistory(t *testing.T, seed uint64, shards int) *history {
	t.Helper()
	h := &history{t: t, rand: rand.New(rand.NewPCG(seed, 0)), queues: []string{"a", "b", "c", "d.x"}}
	b, err := Open(Config{Shards: shards, Store: 9, Journal: func(uint16) (journal.Journal, error) {
		h.journals = append(h.journals, &journal.Memory{})
		return h.journals[len(h.journals)-1], nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if h.keys, err = handles.NewEphemeral(); err != nil {
		t.Fatal(err)
	}
	h.b = b
	for range 4 {
		h.join()
	}
	return h
}

func (h *history) close() {
	for _, c := range h.clients {
		c.s.Close()
	}
	if err := h.b.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *history) join() {
	h.names++
	c := &historyClient{id: fmt.Sprintf("client-%d-of-this-history", h.names), waiting: make(map[uint64]bool)}
	c.s = h.b.Attach(Identity{Tenant: 1, Principal: "p"}, SessionOptions{ID: []byte(c.id)})
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
	case n < 4:
		<-time.After(time.Duration(h.rand.Int64N(int64(40 * time.Second))))
	case n < 7:
		h.reconnect(c)
	case n < 8 && len(c.waiting) > 0:
		for op := range c.waiting {
			c.s.Detach(op)
			delete(c.waiting, op)
			break
		}
	case n < 20:
		h.credit(c)
	default:
		if r := h.request(); r != nil {
			h.submit(c, Op{Credit: uint32(h.rand.IntN(3)), Timeout: time.Duration(h.rand.IntN(2)) * time.Second, Request: r})
		}
	}
	synctest.Wait()
	for _, c := range h.clients {
		h.takeIn(c)
	}
}

func (h *history) submit(c *historyClient, op Op) {
	c.op++
	op.ID = c.op
	if r, ok := op.Request.(*Consume); ok {
		r.MaxInFlight = 1 + uint32(h.rand.IntN(4))
	}
	c.waiting[op.ID] = true
	c.last = append(c.last, op)
	if len(c.last) > 3 {
		c.last = c.last[1:]
	}
	c.s.Submit([]Op{op})
}

// reconnect cuts a client, and repeats what it did last, as one does that had no answer.
func (h *history) reconnect(c *historyClient) {
	if h.chance(50) {
		c.s.Close()
	}
	c.s = h.b.Attach(Identity{Tenant: 1, Principal: "p"}, SessionOptions{ID: []byte(c.id)})
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

// request makes a random request out of what is known so far.
func (h *history) request() Request {
	switch n := h.rand.IntN(100); {
	case n < 22:
		return h.enqueue(true)
	case n < 30:
		return h.consume()
	case n < 34:
		return &OpenPipe{Options: h.pipeOptions()}
	case n < 55:
		return h.reply(true)
	case n < 80:
		return h.settle()
	case n < 87:
		if hd, ok := pick(h, h.receive); ok {
			return &Receive{Handle: hd, FromSequence: uint64(h.rand.IntN(3))}
		}
	case n < 91:
		if hd, ok := pick(h, h.receive); ok {
			return &Cancel{Handle: hd}
		}
	case n < 94:
		if hd, ok := pick(h, h.leases); ok {
			return &ExtendLeases{Leases: []handles.Handle{hd}}
		}
	case n < 95:
		if hd, ok := pick(h, append(h.receive[:len(h.receive):len(h.receive)], h.send...)); ok {
			return &Describe{Handle: hd}
		}
	case n < 96:
		return &ListQueues{}
	default:
		if r := h.administer(); r != nil {
			return r
		}
	}
	return nil
}

func (h *history) consume() *Consume {
	c := &Consume{Queues: []string{h.queue()}, LeaseTime: time.Duration(1+h.rand.IntN(20)) * time.Second}
	if h.chance(30) {
		c.Queues = h.queues
	}
	if h.chance(10) {
		c.Wait = time.Duration(1+h.rand.IntN(20)) * time.Second
	}
	if h.chance(10) {
		c.MaxDeliveries = uint64(1 + h.rand.IntN(3))
	}
	if h.chance(50) {
		c.ConsumerID = fmt.Sprint("consumer", h.rand.IntN(3))
		c.Grace = time.Duration(h.rand.IntN(10)) * time.Second
	}
	for h.chance(60) {
		if hd, ok := pick(h, h.leases); ok {
			c.Held = append(c.Held, hd)
		}
	}
	return c
}

// administer makes a random request of an administrator.
func (h *history) administer() Request {
	q := h.queue()
	switch h.rand.IntN(16) {
	case 0, 12:
		return &CreateQueue{Queue: q, Config: h.config()}
	case 1, 2:
		return &UpdateQueue{Queue: q, Config: h.config(), Fields: ConfigFields(h.rand.Uint32()) & ConfigAll}
	case 4, 5, 6:
		r := &RedriveMessages{Queue: q, Messages: h.messages()}
		if h.chance(50) {
			r.Target = h.queue()
		}
		return r
	case 7, 8:
		return &ListMessages{Queue: q, State: MessageState(h.rand.IntN(5)), Limit: 1 + h.rand.IntN(3)}
	case 9:
		return &DeleteMessages{Queue: q, Messages: h.messages()}
	case 10, 11:
		if hd, ok := pick(h, h.receive); ok && h.chance(50) {
			return &EndPipe{Handle: hd}
		}
		if id, ok := pick(h, h.ids); ok {
			return &EndPipe{Message: id}
		}
		return nil
	case 3:
		return &DeleteQueue{Queue: q, Force: h.chance(70)}
	default:
		states := []MessageState{0, MessageReady, MessageDelayed, MessageDead}
		return &PurgeQueue{Queue: q, State: states[h.rand.IntN(len(states))]}
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

func (h *history) config() QueueConfig {
	return QueueConfig{
		MaxLength: uint64(h.rand.IntN(6)), MaxBytes: uint64(h.rand.IntN(50)), DropOldest: h.chance(50),
		DefaultExpiry: time.Duration(h.rand.IntN(60)) * time.Second, LeaseTime: time.Duration(h.rand.IntN(20)) * time.Second,
		MaxFailures: uint32(h.rand.IntN(4)), Backoff: time.Duration(h.rand.IntN(5)) * time.Second,
		GroupConcurrency: uint32(h.rand.IntN(3)), Paused: h.chance(20), MaxDead: uint32(h.rand.IntN(4)),
	}
}

func (h *history) pipeOptions() PipeOptions {
	o := PipeOptions{
		Timeout: time.Duration(1+h.rand.IntN(300)) * time.Second, DisconnectGrace: time.Duration(1+h.rand.IntN(10)) * time.Second,
		KeepIfAbandoned: h.chance(20), CapacityReplies: uint32(h.rand.IntN(4)), Retain: time.Duration(h.rand.IntN(20)) * time.Second,
	}
	from := h.send
	if h.chance(50) {
		from = h.receive
	}
	if hd, ok := pick(h, from); ok && h.chance(30) {
		o.Parent = hd
	}
	return o
}

func (h *history) enqueue(mayCall bool) *Enqueue {
	e := &Enqueue{Queue: h.queue(), Body: []byte("payload"), Cargo: h.cargo()}
	if h.chance(20) {
		e.Delay = time.Duration(h.rand.IntN(20)) * time.Second
	}
	if h.chance(10) {
		e.Expiry = time.Duration(1+h.rand.IntN(30)) * time.Second
	}
	e.RequireConsumer = mayCall && h.chance(20)
	if mayCall && h.chance(10) {
		e.Key = &Key{ID: [16]byte{byte(h.rand.IntN(5))}, Content: [16]byte{byte(h.rand.IntN(2))}}
	}
	if h.chance(30) {
		e.Priority = uint8(h.rand.IntN(priorities))
	}
	if h.chance(30) {
		e.Group = []string{"g", "h"}[h.rand.IntN(2)]
	}
	if hd, ok := pick(h, h.send); ok && h.chance(40) {
		e.ReplyTo = hd
	} else if mayCall && h.chance(80) {
		o := h.pipeOptions()
		e.Pipe, e.Call = &o, h.chance(70)
	}
	return e
}

func (h *history) cargo() (c Cargo) {
	for i := range h.rand.IntN(3) {
		from := h.send
		if h.chance(40) {
			from = h.receive
		}
		if hd, ok := pick(h, from); ok && h.chance(50) {
			c.Handles = append(c.Handles, NamedHandle{fmt.Sprint("h", i), hd})
		}
	}
	if hd, ok := pick(h, h.send); ok && h.chance(5) {
		c.Found = append(c.Found, hd)
	}
	return c
}

func (h *history) reply(mayLease bool) Request {
	hd, ok := pick(h, h.send)
	if !ok {
		return nil
	}
	r := &Reply{Handle: hd, Kind: ReplyPayload, Body: []byte("reply"), More: h.chance(60), Cargo: h.cargo()}
	switch n := h.rand.IntN(100); {
	case n < 10:
		r.Kind, r.More = ReplyError, false
	case n < 30:
		if inner, ok := pick(h, h.receive); ok {
			r.Kind, r.Splice, r.More = ReplySplice, inner, false
		}
	case n < 40:
		r.Kind, r.Body = ReplyNothing, nil
	}
	if h.chance(10) {
		r.ID = fmt.Sprint(h.rand.IntN(3))
	}
	if lease, ok := pick(h, h.leases); ok && mayLease && h.chance(60) {
		r.Lease, r.Ack = lease, h.chance(50)
	}
	return r
}

func (h *history) settle() Request {
	lease, ok := pick(h, h.leases)
	if !ok {
		return nil
	}
	s := &Settle{Lease: lease, Action: SettleAction(1 + h.rand.IntN(4)), KeepHandles: h.chance(10)}
	if h.chance(50) {
		s.Action = Ack
	}
	if s.Action == Retry {
		s.Delay = time.Duration(h.rand.IntN(5)) * time.Second
	}
	for range h.rand.IntN(3) {
		if r, ok := h.reply(false).(*Reply); ok && h.chance(50) {
			s.Replies = append(s.Replies, r)
		}
	}
	for range h.rand.IntN(3) {
		if h.chance(50) {
			s.Messages = append(s.Messages, h.enqueue(false))
		}
	}
	return s
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

// checkEdges checks that no consumer over several shards has room while there is something to take, and that it counts
// what its parts hold.
func (h *history) checkEdges() {
	h.t.Helper()
	held := make(map[*edge]int64)
	for _, r := range h.b.runners {
		r.mu.Lock()
		for _, c := range r.shard.consumers {
			if c.edge != nil {
				held[c.edge] += int64(c.inFlight)
			}
		}
		r.mu.Unlock()
	}
	for e, n := range held {
		e.mu.Lock()
		if e.inFlight != n || e.over {
			h.t.Errorf("edge of %d: counts %d in flight, its parts hold %d; over: %v", e.op, e.inFlight, n, e.over)
		}
		if e.roomLocked() > 0 && len(e.offers) > 0 {
			h.t.Errorf("edge of %d: room for %d, and shards %v have something", e.op, e.roomLocked(), e.offers)
		}
		e.mu.Unlock()
	}
}

// checkForeign checks that every carrier which a pipe has in another shard is still there: none was left behind.
func (h *history) checkForeign() {
	h.t.Helper()
	for _, r := range h.b.runners {
		for slot := uint32(1); slot <= r.shard.st.pipes.top; slot++ {
			p := r.shard.st.pipes.at(slot)
			for _, c := range p.carriers {
				if c.shard == r.number || p.state == pipeEnded {
					continue
				}
				st := h.b.runners[c.shard].shard.st
				if !c.reply && st.carrying(c.carrierRef) == nil || c.reply && !hasNumber(st.pipes.at(c.slot), c.number) {
					h.t.Errorf("shard %d: pipe %d: its carrier %+v is gone", r.number, slot, c)
				}
			}
		}
	}
}

// hasNumber reports whether a pipe keeps a reply that others know by a number, or one that waits for room may be it.
func hasNumber(p *pipe, number uint64) bool {
	return len(p.live.parked) > 0 || slices.ContainsFunc(p.replies, func(r reply) bool {
		return slices.ContainsFunc(r.handles, func(h carriedHandle) bool { return h.number == number })
	})
}

// check compares each shard with what its journal gives.
func (h *history) check() {
	h.t.Helper()
	synctest.Wait()
	h.checkEdges()
	h.checkForeign()
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
		if facts == 0 && r.shard.st.messages.top > 0 {
			h.t.Errorf("shard %d: nothing was journalled", i)
		}
		if diff := cmp.Diff(durable(r.shard.st), durable(replayed), cmpopts.EquateEmpty(), cmp.AllowUnexported(
			durableState{}, queue{}, message{}, pipe{}, pipeRef{}, carrier{}, carrierRef{}, reply{}, carriedHandle{}, feed{}, byID{},
			messageExtras{}, attempt{}, outcomes{}, outcome{}, settledLease{}, sentEntry{}, usedKey{}, keyRef{}, relatives{}, freeQueue{},
		), cmpopts.IgnoreTypes(liveQueue{}, liveMessage{}, liveExtras{}, livePipe{}, liveOutcomes{})); diff != "" {
			h.t.Errorf("shard %d: replayed state differs (-live +replayed):\n%s", i, diff)
		}
		checkConsistent(h.t, r.shard, false)
		restored := newShard(r.number, h.b.store, r.shard.now, h.rand.Uint64)
		restored.st = replayed
		restored.restore()
		checkConsistent(h.t, restored, true)
		r.mu.Unlock()
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
	d.free = st.freeQueues
	for _, q := range st.queues {
		if q != nil {
			d.queues = append(d.queues, *q)
		}
	}
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		if m := *st.messages.at(slot); m.state > messageReserved {
			d.messages = append(d.messages, m)
		}
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		if p := *st.pipes.at(slot); p.state != pipeFree {
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

// checkConsistent checks what must hold between the parts of a shard.
func checkConsistent(t *testing.T, s *shard, restored bool) {
	t.Helper()
	checkKeys(t, s)
	checkConsumers(t, s)
	st := s.st
	type count struct{ ready, leased, delayed, bytes, leasedBytes, waiters uint64 }
	counts := make(map[uint32]count)
	required := make(map[uint32]int)
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		m := st.messages.at(slot)
		c := counts[m.queue]
		if m.state > messageReserved && st.queues[m.queue] == nil {
			t.Errorf("message %d is in a queue that is gone", slot)
			continue
		}
		if m.requireConsumer && m.attempt == 0 && (m.state == messageReady || m.state == messageDelayed) {
			required[m.queue]++
		}
		switch m.state {
		case messageReady:
			c.ready++
		case messageLeased:
			c.leased++
			c.leasedBytes += uint64(len(m.body))
			if restored { // its consumer has a while to come back
				if m.live.timer.at < s.now.Add(orphanWait) {
					t.Errorf("leased message %d of before: timer at %d, now is %d", slot, m.live.timer.at, s.now)
				}
				break
			}
			if m.live.holder == nil {
				t.Errorf("leased message %d: nobody holds it", slot)
			}
			if m.live.timer.at != m.until {
				t.Errorf("leased message %d: timer at %d, lease until %d", slot, m.live.timer.at, m.until)
			}
		case messageDelayed:
			c.delayed++
		default:
			continue
		}
		c.bytes += uint64(len(m.body))
		if m.live.waited {
			c.waiters++
		}
		counts[m.queue] = c
		ref := carrierRef{shard: st.shard, slot: slot, number: uint64(m.tag)}
		for i := range m.handles {
			if hd := &m.handles[i]; hd.tracked() {
				checkCarried(t, st, hd.pipe, ref)
			}
		}
		if !m.replyTo.isZero() && !m.replyToEnded {
			checkCarried(t, st, m.replyTo, ref)
		}
	}
	for _, q := range st.queues {
		if q == nil {
			continue
		}
		if len(q.live.required) != required[q.number] || q.deserted() && required[q.number] > 0 {
			t.Errorf("queue %q: %d require a consumer, want %d; deserted: %v", q.name, len(q.live.required), required[q.number], q.deserted())
		}
		live := &q.live
		got := count{live.readyN, live.leasedN, live.delayedN, live.bytes, live.leasedBytes, live.waiters}
		if want := counts[q.number]; got != want {
			t.Errorf("queue %q: counts %+v, want %+v", q.name, got, want)
		}
		checkRows(t, s, q)
		if q.deleted && len(s.chores) == 0 {
			t.Errorf("queue %q was deleted and is still there", q.name)
		}
		checkDelayed(t, st, q)
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		p := st.pipes.at(slot)
		if p.state == pipeFree {
			continue
		}
		if p.live.timer.at == 0 {
			t.Errorf("pipe %d (state %d) has no timer: it would never end", slot, p.state)
		}
		checkRelatives(t, s, slot)
		for _, c := range p.carriers {
			if !c.reply && c.shard == st.shard && st.carrying(c.carrierRef) == nil {
				t.Errorf("pipe %d: carrier %+v is gone", slot, c)
			}
		}
		for _, r := range p.live.readers {
			if r.credit > 0 && r.next <= p.last() {
				t.Errorf("pipe %d: a reader with credit was not given %d", slot, r.next)
			}
		}
	}
}

// checkKeys checks that each key is found, counted, and has a timer.
func checkKeys(t *testing.T, s *shard) {
	t.Helper()
	k := &s.st.keys
	count := make(map[uint32]int)
	for _, u := range k.entries[k.start:] {
		count[u.tenant]++
		if got := k.find(u.ref); got == nil || got.at != u.at {
			t.Errorf("key %v is not found", u.ref)
		}
	}
	if diff := cmp.Diff(count, k.byTenant); diff != "" || len(k.number) != len(k.entries)-k.start {
		t.Errorf("keys: %d are found, counts differ (-want +got):\n%s", len(k.number), diff)
	}
	if at := k.oldest(); at != 0 && s.keysTimer.at != at+keyWindow {
		t.Errorf("keys: timer at %d, want %d", s.keysTimer.at, at+keyWindow)
	}
}

// checkConsumers checks that what consumers hold is leased, counted, and held once, and that who is away has a timer.
func checkConsumers(t *testing.T, s *shard) {
	t.Helper()
	all := slices.Collect(maps.Values(s.consumers))
	away := make(map[uint32]int)
	for _, c := range s.away {
		all = append(all, c)
		if c.slot == 0 || s.waiting.at(c.slot).timer.at == 0 {
			t.Errorf("consumer %q is away and has no timer", c.id)
		}
		for _, seat := range c.seats {
			away[seat.queue.number]++
		}
	}
	for _, c := range all {
		n := uint32(0)
		for slot := c.held.head; slot != 0; slot = s.st.messages.at(slot).live.next {
			n++
			if m := s.st.messages.at(slot); m.state != messageLeased || m.live.holder != c {
				t.Errorf("consumer %q holds message %d, which is in state %d and not its own", c.id, slot, m.state)
			}
		}
		if n != c.inFlight {
			t.Errorf("consumer %q holds %d, counts %d", c.id, n, c.inFlight)
		}
	}
	for _, q := range s.st.queues {
		if q != nil && q.live.away != away[q.number] {
			t.Errorf("queue %q: counts %d away, want %d", q.name, q.live.away, away[q.number])
		}
	}
}

// checkRelatives checks that a pipe knows those under it, and they it.
func checkRelatives(t *testing.T, s *shard, slot uint32) {
	t.Helper()
	p, r := s.st.pipes.at(slot), s.st.relatives[slot]
	if p.related != (r != nil) || r != nil && p.state == pipeEnded {
		t.Errorf("pipe %d (state %d): related is %v, has %v", slot, p.state, p.related, r)
	}
	if r == nil {
		return
	}
	ref := s.refAt(slot)
	for child := range r.children {
		if c := s.st.pipe(child); child.shard == s.st.shard && (c == nil || !c.related || s.st.relatives[child.slot].parent != ref) {
			t.Errorf("pipe %d: its child %+v does not know it", slot, child)
		}
	}
	if parent := s.st.pipe(r.parent); r.parent.shard == s.st.shard && parent != nil && parent.state != pipeEnded {
		if of := s.st.relatives[r.parent.slot]; of == nil {
			t.Errorf("pipe %d: its parent %+v does not know it", slot, r.parent)
		} else if _, ok := of.children[ref]; !ok {
			t.Errorf("pipe %d: its parent %+v does not know it", slot, r.parent)
		}
	}
}

// checkRows checks that each ready message of a queue is in its row, in order, and that every row that should have its
// turn has it.
func checkRows(t *testing.T, s *shard, q *queue) {
	t.Helper()
	rows := []*row{&q.live.ready}
	if l := q.live.lanes; l != nil {
		for _, r := range l.loose[1:] {
			if r != nil {
				rows = append(rows, r)
			}
		}
		for _, g := range l.groups {
			rows = append(rows, g.rows...)
			checkGroup(t, s, q, g)
		}
	}
	inRows, mayGo := uint64(0), false
	for _, r := range rows {
		order := uint64(0)
		for slot := r.head; slot != 0; slot = s.st.messages.at(slot).live.next {
			inRows++
			m := s.st.messages.at(slot)
			if m.state != messageReady || m.queue != q.number || s.rowOf(q, m) != r {
				t.Errorf("queue %q: message %d is in a row where it does not belong", q.name, slot)
			}
			if m.order <= order {
				t.Errorf("queue %q: order %d behind %d", q.name, m.order, order)
			}
			order = m.order
			if m.special() && !m.extras.live.aged {
				t.Errorf("queue %q: message %d is ready and has no age", q.name, slot)
			}
		}
		turns := r.head != 0 && !r.group.blocked(q.config.GroupConcurrency)
		if q.live.lanes != nil && r.turning != turns {
			t.Errorf("queue %q: a row's turning is %v, want %v", q.name, r.turning, turns)
		}
		mayGo = mayGo || turns
	}
	if inRows != q.live.readyN {
		t.Errorf("queue %q: %d in rows, want %d", q.name, inRows, q.live.readyN)
	}
	if mayGo && q.live.seats.head != nil && !q.config.Paused {
		t.Errorf("queue %q: messages are ready although a consumer has room", q.name)
	}
}

// checkGroup checks a group's counts.
func checkGroup(t *testing.T, s *shard, q *queue, g *group) {
	t.Helper()
	want := group{name: g.name, rows: g.rows}
	for slot := uint32(1); slot <= s.st.messages.top; slot++ {
		m := s.st.messages.at(slot)
		if m.state <= messageReserved || m.state == messageDead || m.queue != q.number || m.group() != g.name {
			continue
		}
		want.messages++
		switch {
		case m.state == messageLeased:
			want.leased++
		case m.state == messageDelayed && m.attempt > 0:
			want.held++
		}
	}
	if g.messages != want.messages || g.leased != want.leased || g.held != want.held || g.messages == 0 {
		t.Errorf("queue %q, group %q: %d messages, %d leased, %d held back, want %d, %d, %d and not 0 messages",
			q.name, g.name, g.messages, g.leased, g.held, want.messages, want.leased, want.held)
	}
}

// checkDelayed checks that a queue's list of delayed messages has them all.
func checkDelayed(t *testing.T, st *state, q *queue) {
	t.Helper()
	n := uint64(0)
	for slot := q.live.delayed.head; slot != 0; slot = st.messages.at(slot).live.next {
		n++
		if m := st.messages.at(slot); m.state != messageDelayed || m.queue != q.number {
			t.Errorf("queue %q: message %d of state %d among the delayed ones", q.name, slot, m.state)
		}
	}
	if n != q.live.delayedN {
		t.Errorf("queue %q: %d in the list of delayed ones, want %d", q.name, n, q.live.delayedN)
	}
}

func checkCarried(t *testing.T, st *state, ref pipeRef, by carrierRef) {
	t.Helper()
	p := st.pipe(ref)
	if p == nil {
		return // another shard's, or forgotten
	}
	for _, c := range p.carriers {
		if c.carrierRef == by {
			return
		}
	}
	t.Errorf("pipe %d does not know its carrier %+v", ref.slot, by)
}
