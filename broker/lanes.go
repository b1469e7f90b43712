package broker

import "fmt"

// priorities is how many there are, from 0.
const priorities = 10

// agePerPriority is how long a message waits until it counts as one priority higher. So a message is overtaken only by
// those that came less than ten times as long after it: none starves.
const agePerPriority = Time(60e9)

// lanes are what a queue has once a message with a priority or a group has come: a lane for each priority, in which rows
// are served in turn. The messages without a group take turns with the groups as if they were one.
type lanes struct {
	rotations [priorities]rotation
	ready     [priorities]uint64 // messages, also those of groups that are blocked
	loose     [priorities]*row   // the rows without a group, once there are any; the first is the queue's own
	groups    map[string]*group

	oldest, newest uint32 // messages by age, linked through their extras
}

// A group is those messages of a queue that have its name. It is forgotten when the last one goes.
type group struct {
	name     string
	rows     []*row
	messages uint64 // that are not dead
	leased   uint32
	// held is how many are held back after a failure.
	held uint32
}

// blocked reports whether nothing more of a group may be delivered for now. In strict order, a message that is held back
// after a failure blocks those behind it.
func (g *group) blocked(limit uint32) bool {
	return limit != 0 && g != nil && (g.leased >= limit || limit == 1 && g.held > 0)
}

// why says for what a group is blocked; nothing if it is not.
func (g *group) why(limit uint32) string {
	switch {
	case !g.blocked(limit):
		return ""
	case g.leased >= limit:
		return fmt.Sprintf("it has %d in flight, and may have no more", g.leased)
	default:
		return "a message of it that failed is held back, and the order is strict"
	}
}

// rowOf is where a message of a queue is while it is ready.
func (s *shard) rowOf(q *queue, m *message) *row {
	if !m.special() {
		return &q.live.ready
	}
	if g := m.extras.live.group; g != nil {
		for _, r := range g.rows {
			if r.priority == m.extras.priority {
				return r
			}
		}
		r := &row{group: g, priority: m.extras.priority}
		g.rows = append(g.rows, r)
		return r
	}
	r := &q.live.lanes.loose[m.extras.priority]
	if *r == nil {
		*r = &row{priority: m.extras.priority}
	}
	return *r
}

// join adds a special message to its queue's lanes, and to its group.
func (s *shard) join(q *queue, m *message) {
	if q.live.lanes == nil {
		q.live.lanes = &lanes{}
		q.live.lanes.loose[0] = &q.live.ready
		q.live.lanes.ready[0] = q.live.readyN
		s.turn(q, &q.live.ready)
	}
	name := m.extras.group
	if name == "" {
		return
	}
	l := q.live.lanes
	g := l.groups[name]
	if g == nil {
		if l.groups == nil {
			l.groups = make(map[string]*group)
		}
		g = &group{name: name}
		l.groups[name] = g
	}
	g.messages++
	m.extras.live.group = g
}

// quit takes a special message that goes, or dies, out of what join put it in.
func (s *shard) quit(q *queue, m *message) {
	s.unage(q, m)
	if g := m.extras.live.group; g != nil {
		m.extras.live.group = nil
		if g.messages--; g.messages == 0 {
			delete(q.live.lanes.groups, g.name)
		}
	}
}

// turn gives a row its place in its lane's rotation, if it should have one and has none.
func (s *shard) turn(q *queue, r *row) {
	if !r.turning && r.head != 0 && !r.group.blocked(q.config.GroupConcurrency) {
		q.live.lanes.rotations[r.priority].pushBack(r)
	}
}

// regroup gives a group's rows their places after its counts, or the queue's limit, have changed.
func (s *shard) regroup(q *queue, g *group) {
	blocked := g.blocked(q.config.GroupConcurrency)
	for _, r := range g.rows {
		if blocked && r.turning {
			q.live.lanes.rotations[r.priority].remove(r)
		}
		if !blocked && !r.turning && r.head != 0 {
			s.turn(q, r)
			s.later(work{kind: workDispatch, queue: q})
		}
	}
}

// lineIn puts a message that has become ready into its row.
func (s *shard) lineIn(q *queue, slot uint32) {
	m := s.st.messages.at(slot)
	r := s.rowOf(q, m)
	if r.tail == 0 || s.st.messages.at(r.tail).order < m.order {
		s.pushBack(&r.messageList, slot)
	} else {
		s.putBack(r, slot)
	}
	q.live.readyN++
	if q.live.lanes == nil {
		return
	}
	q.live.lanes.ready[r.priority]++
	s.turn(q, r)
	if m.special() {
		s.age(q, slot, m)
	}
}

// takeOut takes a ready message out of its row.
func (s *shard) takeOut(q *queue, slot uint32) {
	q.live.readyN--
	if q.live.lanes == nil {
		s.unlink(&q.live.ready.messageList, slot)
		return
	}
	r := s.rowOf(q, s.st.messages.at(slot))
	s.unlink(&r.messageList, slot)
	q.live.lanes.ready[r.priority]--
	if r.head == 0 && r.turning {
		q.live.lanes.rotations[r.priority].remove(r)
	}
}

// nextReady is the message of a queue that is to be delivered next; 0 if there is none that may be.
func (s *shard) nextReady(q *queue) uint32 {
	switch {
	case q.config.Paused:
		return 0
	case q.live.lanes == nil:
		return q.live.ready.head
	}
	var first *row
	var best Time
	for p := priorities - 1; p >= 0; p-- {
		r := q.live.lanes.rotations[p].head
		if r == nil {
			continue
		}
		if since := s.st.messages.at(r.head).readySince() - Time(p)*agePerPriority; first == nil || since < best {
			first, best = r, since
		}
	}
	if first == nil {
		return 0
	}
	return first.head
}

// pass makes it the turn of the other rows, because one of its messages is being delivered.
func (s *shard) pass(q *queue, r *row) {
	lane := &q.live.lanes.rotations[r.priority]
	lane.remove(r)
	lane.pushBack(r)
}

// age puts a message at the young end of its queue's lanes, the first time that it is ready.
func (s *shard) age(q *queue, slot uint32, m *message) {
	e, l := &m.extras.live, q.live.lanes
	if e.aged {
		return
	}
	e.aged, e.older, e.newer = true, l.newest, 0
	if l.newest != 0 {
		s.st.messages.at(l.newest).extras.live.newer = slot
	} else {
		l.oldest = slot
	}
	l.newest = slot
}

func (s *shard) unage(q *queue, m *message) {
	e, l := &m.extras.live, q.live.lanes
	if !e.aged {
		return
	}
	if e.older != 0 {
		s.st.messages.at(e.older).extras.live.newer = e.newer
	} else {
		l.oldest = e.newer
	}
	if e.newer != 0 {
		s.st.messages.at(e.newer).extras.live.older = e.older
	} else {
		l.newest = e.older
	}
	e.aged, e.older, e.newer = false, 0, 0
}

// oldestReady is the ready message that came first; 0 if there is none.
func (s *shard) oldestReady(q *queue) uint32 {
	first := q.live.ready.head
	if q.live.lanes == nil {
		return first
	}
	for slot := q.live.lanes.oldest; slot != 0; {
		m := s.st.messages.at(slot)
		if first != 0 && s.st.messages.at(first).order < m.order {
			return first
		}
		if m.state == messageReady {
			return slot
		}
		slot = m.extras.live.newer
	}
	return first
}

// occupy notes that a message of a queue's lanes is in flight.
func (s *shard) occupy(q *queue, m *message) {
	if g := m.extras.live.group; g != nil {
		g.leased++
		s.regroup(q, g)
	}
}

// holdBack notes that a message is delayed. A delay that the producer set does not block its group.
func (s *shard) holdBack(q *queue, m *message) {
	if g := m.extras.live.group; g != nil && m.attempt > 0 {
		g.held++
		s.regroup(q, g)
	}
}

// release undoes occupy or holdBack.
func (s *shard) release(q *queue, m *message) {
	g := m.extras.live.group
	switch {
	case g == nil:
		return
	case m.state == messageLeased:
		g.leased--
	case m.attempt > 0:
		g.held--
	}
	s.regroup(q, g)
}
