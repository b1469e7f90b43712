package history

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Rules say what a history may show.
type Rules struct {
	// Lossy is how long before a crash that what was confirmed may be lost. Zero: nothing may, at any time.
	Lossy time.Duration
	// Ordered are the queues that only one consumer empties, at one place, so that the order of deliveries is seen.
	Ordered []string
	// Ends are the ends that waiters may learn besides OK. What they waited for may be gone then.
	Ends []string
}

// Check judges a whole history, of which all operations are over and all queues have been emptied or listed.
func Check(events []Event, rules Rules) *Report {
	c := &checker{
		rules: rules, report: &Report{lossy: rules.Lossy > 0}, sends: make(map[ID]*send), messages: make(map[messageKey]*message),
		owners: make(map[string]ID), waiters: make(map[int]*waiter), queues: make(map[string]*queue),
	}
	for _, e := range events {
		if e.What == Crashed || e.What == Back {
			c.crash(e)
		}
	}
	for i, e := range events {
		c.take(i, e)
	}
	c.checkSends()
	c.checkMessages()
	c.checkWaiters()
	c.checkQueues()
	return c.report
}

// A checker has what a history says, by what it is about.
type checker struct {
	rules    Rules
	report   *Report
	crashes  []outage
	sends    map[ID]*send
	order    []*send // in the order in which they were begun
	messages map[messageKey]*message
	owners   map[string]ID // whose a message id is for certain
	waiters  map[int]*waiter
	queues   map[string]*queue
}

// An outage is from a crash until the server was back.
type outage struct{ from, to time.Duration }

// A send is all that was done to send one message, perhaps more than once.
type send struct {
	id       ID
	queue    string
	tries    int
	refusals int
	accepted bool
	at       time.Duration // when it was accepted first
	messages []string      // all that it became, in the order in which that was seen
	certain  []string      // those of them that no crash may have taken away
	gaveUp   bool          // who waited for it learnt an end other than OK
}

// A messageKey names a message. Its id alone does not where a crash may lose messages: the next ones may get their ids.
type messageKey struct {
	id   string
	send ID
}

// A message is what was seen of one.
type message struct {
	messageKey
	operations []porcupine.Operation
	settling   map[int]int // begins of operations, by op
	acked      uint32      // the attempt of an ack that is certain
	done       bool        // it was settled for good, or may have been
	left       bool
	seen       time.Duration // when anything was seen of it last
}

type waiter struct {
	id    ID
	began time.Duration
	ends  []string
	ended time.Duration
}

type queue struct {
	first  time.Duration // when something was accepted there first
	used   bool
	is     bool            // at the end
	orders map[group]int   // last counter of a first delivery
	seen   map[string]bool // messages
}

func (c *checker) crash(e Event) {
	if e.What == Crashed {
		c.report.Crashes++
		c.crashes = append(c.crashes, outage{e.At, 1<<63 - 1})
	} else if n := len(c.crashes); n > 0 {
		c.crashes[n-1].to = e.At
	}
}

// boot is how many times the server had come back by then.
func (c *checker) boot(at time.Duration) int {
	n, _ := slices.BinarySearchFunc(c.crashes, at, func(o outage, at time.Duration) int {
		if o.to < at {
			return -1
		}
		return 1
	})
	return n
}

// uncertain tells whether what was confirmed then may have been lost.
func (c *checker) uncertain(at time.Duration) bool {
	if c.rules.Lossy == 0 {
		return false
	}
	n := c.boot(at)
	return n < len(c.crashes) && c.crashes[n].from-c.rules.Lossy <= at
}

func (c *checker) send(id ID) *send {
	s := c.sends[id]
	if s == nil {
		s = &send{id: id}
		c.sends[id] = s
		c.order = append(c.order, s)
	}
	return s
}

func (c *checker) message(e Event) *message {
	key := messageKey{e.Message, e.ID}
	m := c.messages[key]
	if m == nil {
		m = &message{messageKey: key, settling: make(map[int]int)}
		c.messages[key] = m
	}
	return m
}

func (c *checker) queue(name string) *queue {
	q := c.queues[name]
	if q == nil {
		q = &queue{orders: make(map[group]int), seen: make(map[string]bool)}
		c.queues[name] = q
	}
	return q
}

// take takes the i-th event.
func (c *checker) take(i int, e Event) {
	r := c.report
	switch e.What {
	case Sent:
		r.Sends++
		s := c.send(e.ID)
		s.queue = e.Queue
		s.tries++
	case Accepted:
		c.accepted(e)
	case Refused:
		r.Refused++
		c.send(e.ID).refusals++
	case Unknown:
		r.Unknown++
	case Delivered:
		c.delivered(i, e)
	case Corrupt:
		r.find(&r.Corrupt, "%s got %s from %q", e.By, e.Reason, e.Queue)
	case Settling:
		c.message(e).settling[e.Op] = i
	case Settled:
		c.settled(i, e)
	case Waits:
		r.Waiters++
		c.waiters[e.Op] = &waiter{id: e.ID, began: e.At}
	case Ended:
		w := c.waiters[e.Op]
		w.ends, w.ended = append(w.ends, e.Reason), e.At
	case Left:
		c.left(e)
	case HasQueue:
		c.queue(e.Queue).is = true
	}
}

func (c *checker) accepted(e Event) {
	c.report.Accepted++
	s := c.send(e.ID)
	if !s.accepted {
		s.accepted, s.at = true, e.At
	}
	c.became(s, e.Message, !c.uncertain(e.At))
	q := c.queue(s.queue)
	if !q.used {
		q.used, q.first = true, e.At
	}
}

// became notes that a send is a message, for certain or not.
func (c *checker) became(s *send, message string, certain bool) {
	if !slices.Contains(s.messages, message) {
		s.messages = append(s.messages, message)
	}
	if !certain || slices.Contains(s.certain, message) {
		return
	}
	s.certain = append(s.certain, message)
	if owner, ok := c.owners[message]; ok {
		c.report.find(&c.report.Unexpected, "%v and %v are both message %s", owner, s.id, message)
	}
	c.owners[message] = s.id
}

func (c *checker) delivered(i int, e Event) {
	r := c.report
	r.Deliveries++
	if e.Attempt > 1 {
		r.Redelivered++
	}
	if s := c.sends[e.ID]; s == nil {
		r.find(&r.Unexpected, "%v was delivered as %s, and was never sent", e.ID, e.Message)
		return
	} else if s.queue != e.Queue {
		r.find(&r.Unexpected, "%v was sent to %q and delivered from %q", e.ID, s.queue, e.Queue)
	}
	c.became(c.sends[e.ID], e.Message, !c.uncertain(e.At))
	m := c.message(e)
	m.seen = e.At
	if m.acked > 0 && e.Attempt > m.acked {
		r.find(&r.AckedAgain, "%v was acked at attempt %d, and delivered again as attempt %d", e.ID, m.acked, e.Attempt)
	}
	m.operations = append(m.operations, porcupine.Operation{ // it was given out at some time before
		Input: MessageInput{Kind: Deliver, Attempt: e.Attempt}, Output: Output{}, Call: 0, Return: int64(i)})
	c.inOrder(e)
}

// inOrder checks the order of first deliveries.
func (c *checker) inOrder(e Event) {
	if e.ID.derived() || !slices.Contains(c.rules.Ordered, e.Queue) {
		return
	}
	q := c.queue(e.Queue)
	if e.Attempt > 1 || q.seen[e.Message] {
		return
	}
	q.seen[e.Message] = true
	g := group{producer: e.ID.Producer}
	if c.rules.Lossy > 0 {
		g.boot = c.boot(e.At) // a crash may have what was delivered come again as if for the first time
	}
	if last, ok := q.orders[g]; ok && last > e.ID.Counter {
		c.report.find(&c.report.OutOfOrder, "%v came first after %d in %q", e.ID, last, e.Queue)
	}
	q.orders[g] = e.ID.Counter
}

func (c *checker) settled(i int, e Event) {
	m := c.message(e)
	began := int64(m.settling[e.Op])
	o := porcupine.Operation{Input: MessageInput{Kind: e.Kind, Attempt: e.Attempt}, Output: e.Output, Call: began, Return: int64(i)}
	if e.Output.Unknown {
		o.Return = 1<<63 - 1
	}
	m.operations = append(m.operations, o)
	if e.Output.Refused || e.Kind == Retry {
		return
	}
	m.done, m.seen = true, e.At
	if !e.Output.Unknown && !c.uncertain(e.At) {
		m.acked = e.Attempt
	}
}

func (c *checker) left(e Event) {
	c.report.Left++
	if s := c.sends[e.ID]; s == nil {
		c.report.find(&c.report.Unexpected, "%v is left as %s, and was never sent", e.ID, e.Message)
		return
	}
	c.became(c.sends[e.ID], e.Message, true)
	m := c.message(e)
	m.left, m.seen = true, e.At
	if m.acked > 0 {
		c.report.find(&c.report.AckedAgain, "%v was acked at attempt %d, and is left", e.ID, m.acked)
	}
}
