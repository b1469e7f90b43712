package broker

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What must hold in a shard, and between shards, whenever nothing is under way.

// checkConsistent checks what must hold between the parts of a shard.
func checkConsistent(t *testing.T, s *shard, restored bool) {
	t.Helper()
	checkQueueNumbers(t, s.st)
	checkKeys(t, s)
	checkConsumers(t, s)
	checkUsage(t, s)
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
		for _, hd := range m.handles() {
			if hd.tracked() {
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
		for i := range p.carriers.len() {
			c := *p.carriers.at(i)
			if !c.reply && c.shard == st.shard && st.carrying(c.carrierRef) == nil {
				t.Errorf("pipe %d: carrier %+v is gone", slot, c)
			}
		}
		for r := range s.readersOf(p) {
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
	for i := range p.carriers.len() {
		if p.carriers.at(i).carrierRef == by {
			return
		}
	}
	t.Errorf("pipe %d does not know its carrier %+v", ref.slot, by)
}

// checkQueueNumbers checks that each number below the highest is either a queue's or free, and each only once.
func checkQueueNumbers(t *testing.T, st *state) {
	t.Helper()
	free := make(map[uint32]int)
	for _, f := range st.freeQueues {
		free[f.number]++
	}
	for number, q := range st.queues {
		n := free[uint32(number)]
		if q != nil {
			n++
		}
		if n != 1 && number > 0 {
			t.Errorf("the number %d is free %d times; it is the queue's %v", number, free[uint32(number)], q)
		}
		delete(free, uint32(number))
	}
	if len(free) > 0 {
		t.Errorf("numbers that no queue ever had are free: %v", free)
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
			for i := range p.carriers.len() {
				c := *p.carriers.at(i)
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
	return p.live.parked != nil || slices.ContainsFunc(p.replies(), func(r reply) bool {
		return slices.ContainsFunc(r.handles, func(h carriedHandle) bool { return h.number == number })
	})
}
