package modeltest

import (
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A model is what the broker's state should be. It has no lists, indices or counters beside what it describes: whatever
// can be found by looking at everything is found so.
type model struct {
	bed       *bed
	queues    []*queue
	messages  []*message // all that ever were
	pipes     []*pipe    // all that ever were
	consumers []*consumer
	keys      map[key]*usedKey
	places    uint64   // places in queues, given out so far
	turns     uint64   // deliveries so far
	step      uint64   // moments at which the broker came to rest, so far
	withdraw  bool     // a queue may have lost its last consumer
	timed     bool     // what happens, happens because its time has come
	work      []func() // what follows from what was done, in the order in which it came up
	// carriedOut are operations that may be repeated under their numbers.
	carriedOut []carriedOut
}

func newModel(d *bed) *model { return &model{bed: d, keys: make(map[key]*usedKey)} }

// A queue is there until it is deleted.
type queue struct {
	name      string
	given     broker.QueueConfig // as it was set
	config    broker.QueueConfig // with the defaults
	enqueued  uint64
	delivered uint64
	acked     uint64
	failed    uint64
	turns     map[line]turn // when whose turn was
}

// A line is those messages of a queue that have one priority and group: they keep their order.
type line struct {
	priority uint8
	group    string
}

// A turn is when a line had its last one, and since when it waits for the next; counted in deliveries.
type turn struct{ served, waits uint64 }

type messageState uint8

const (
	ready messageState = iota + 1
	delayed
	leased
	dead
	gone
)

// A message is one from its receipt on.
type message struct {
	id       broker.MessageID // once its receipt has come
	queue    *queue
	body     []byte
	priority uint8
	group    string
	state    messageState
	place    uint64 // order in its line
	enqueued broker.Time
	readyAt  broker.Time // since when it waits, for its age
	deadline broker.Time
	until    broker.Time
	// notAfter is set while only the range of until is known, until it has been looked at.
	notAfter broker.Time
	dueSeq   uint64 // order in which delays were set

	attempt  uint32
	failures uint32
	required bool // needs a consumer until its first delivery
	holder   *consumer
	heldSeq  uint64 // order in which holders got what they hold
	leases   []*lease
	replyTo  *carried
	handles  []carried
	goneBy   broker.EndReason // leased: how its reply_to pipe ended, if the consumer was told
	sawEnd   bool             // the delivery said so itself; the consumer may be told again

	died     broker.EndReason
	diedAt   uint64 // order of deaths
	diedStep uint64
	trimmed  bool // it was dropped because there were too many dead ones
}

// A lease is one hand-over.
type lease struct {
	m       *message
	attempt uint32
	token   handles.Handle
	settled broker.SettleAction // how it was settled; 0 if it was lost
	dead    bool
	over    broker.Time // when; 0 while it is in force
}

// carried is a handle in a message or a reply.
type carried struct {
	name    string
	pipe    *pipe
	receive bool
	ended   bool // its pipe had ended when it was sent
	own     bool // a reply_to that the broker made
	unseen  bool // which the broker need not know
}

// A consumer takes deliveries.
type consumer struct {
	call      *call
	id        string
	queues    []*queue
	max       uint32
	credit    uint32
	bounded   bool
	lease     time.Duration
	grace     time.Duration
	left      uint64 // deliveries until it stops; with limited
	limited   bool
	stopping  bool
	stopped   bool // it was stopping before its last queue was deleted
	over      bool // the stream has ended
	awayUntil broker.Time
	away      bool
}

type key struct {
	queue *queue
	id    byte
}

type usedKey struct {
	content byte
	message *message
	pipe    *pipe
	at      broker.Time
}

// later lets something follow from what is being done.
func (m *model) later(f func()) { m.work = append(m.work, f) }

// finish does all that follows.
func (m *model) finish() { m.finishUntil(func() bool { return false }) }

// finishUntil does what follows until something is so, or nothing is left.
func (m *model) finishUntil(so func() bool) {
	for !so() {
		if !m.finishOne() {
			return
		}
	}
}

func (m *model) finishOne() bool {
	if len(m.work) == 0 {
		return false
	}
	f := m.work[0]
	m.work = m.work[1:]
	f()
	return true
}

func (m *model) now() broker.Time { return m.bed.now() }

func (m *model) queue(name string) *queue {
	for _, q := range m.queues {
		if q.name == name {
			return q
		}
	}
	return nil
}

// queueFor finds a queue or makes it.
func (m *model) queueFor(name string) (q *queue, created bool) {
	if q := m.queue(name); q != nil {
		return q, false
	}
	q = &queue{name: name, turns: make(map[line]turn)}
	q.config = q.config.Effective()
	m.queues = append(m.queues, q)
	return q, true
}

// in lists the messages of a queue that are in one of some states, in their order.
func (m *model) in(q *queue, states ...messageState) (some []*message) {
	for _, x := range m.messages {
		for _, s := range states {
			if x.queue == q && x.state == s {
				some = append(some, x)
			}
		}
	}
	sortBy(some, func(x *message) uint64 { return x.place })
	return some
}

func (m *model) byID(id broker.MessageID) *message {
	for _, x := range m.messages {
		if x.id == id {
			return x
		}
	}
	return nil
}

// consumersOf counts those of a queue that are attached.
func (m *model) consumersOf(q *queue) (n uint32) {
	for _, c := range m.consumers {
		if !c.over && c.takes(q) {
			n++
		}
	}
	return n
}

func (c *consumer) takes(q *queue) bool {
	for _, of := range c.queues {
		if of == q {
			return true
		}
	}
	return false
}

// holds lists what a consumer has not settled.
func (m *model) holds(c *consumer) (some []*message) {
	for _, x := range m.messages {
		if x.state == leased && x.holder == c {
			some = append(some, x)
		}
	}
	return some
}

func (m *model) able(c *consumer) bool {
	return !c.over && !c.stopping && uint32(len(m.holds(c))) < c.max && (!c.bounded || c.credit > 0)
}

func sortBy[T any](some []T, by func(T) uint64) {
	for i := range some {
		for j := i; j > 0 && by(some[j]) < by(some[j-1]); j-- {
			some[j], some[j-1] = some[j-1], some[j]
		}
	}
}

// carriedOut is an operation with what its repetition gets.
type carriedOut struct {
	op   broker.Op
	want func(*call)
}
