package broker

import (
	"iter"
	"time"

	"github.com/replyq/replyq/internal/optable"
)

// What is in this file is volatile: it is not journalled and starts empty.

// liveQueue is what a queue has besides its durable state. Its lists follow from the messages' states.
type liveQueue struct {
	ready   row         // those without priority and group
	lanes   *lanes      // nil until a message has either
	delayed messageList // in the order in which they came to be delayed

	seats     seatList // consumers with room, served in turn
	consumers int
	away      int // consumers that were cut and may come back
	// required are the messages that need a consumer until they have been delivered once; nil if there was none yet.
	required map[uint32]struct{}

	readyN, leasedN, delayedN uint64
	waiters                   uint64
	bytes, leasedBytes        uint64 // leasedBytes of the bytes are in flight
	enqueued, delivered       uint64
	acked, failed             uint64

	marks    *[rateMarks]rateMark // nil until the first message
	nextMark Time                 // from when on the next event makes a mark
}

// liveMessage is what a message has besides its durable state.
type liveMessage struct {
	holder     *consumer
	timer      timer
	next, prev uint32    // in its queue's ready list, or in its consumer's list
	waited     bool      // its reply_to's pipe is open, as far as is known
	goneBy     EndReason // how that pipe ended, as far as is known and if it was not this delivery that ended it
}

// livePipe is what a pipe has besides its durable state.
type livePipe struct {
	parked *[]parkedReply // nil for most
	// leftAt is when the last reader left a pipe that can be abandoned; 0 while it has one.
	leftAt  Time
	timer   timer
	readers uint32 // the first in the list of its readers, by their slots; 0 if it has none
	// fed is how many replies the pipe that this one goes on with may still send.
	fed uint32
}

// liveOutcomes is what a session's outcomes have besides their durable state.
type liveOutcomes struct {
	attached int  // streams of the session that are attached to the shard
	lastUse  Time // when the last one left
	timer    timer
}

// messageList is a list of messages, linked through liveMessage.
type messageList struct{ head, tail uint32 }

func (s *shard) pushBack(l *messageList, slot uint32) {
	m := s.st.messages.at(slot)
	m.live.prev, m.live.next = l.tail, 0
	if l.tail != 0 {
		s.st.messages.at(l.tail).live.next = slot
	} else {
		l.head = slot
	}
	l.tail = slot
}

// insertAfter puts a message behind another one of the list, or at its head if that is 0.
func (s *shard) insertAfter(l *messageList, before, slot uint32) {
	m := s.st.messages.at(slot)
	next := l.head
	if before != 0 {
		b := s.st.messages.at(before)
		next = b.live.next
		b.live.next = slot
	} else {
		l.head = slot
	}
	m.live.prev, m.live.next = before, next
	if next != 0 {
		s.st.messages.at(next).live.prev = slot
	} else {
		l.tail = slot
	}
}

func (s *shard) unlink(l *messageList, slot uint32) {
	m := s.st.messages.at(slot)
	if m.live.prev != 0 {
		s.st.messages.at(m.live.prev).live.next = m.live.next
	} else {
		l.head = m.live.next
	}
	if m.live.next != 0 {
		s.st.messages.at(m.live.next).live.prev = m.live.prev
	} else {
		l.tail = m.live.prev
	}
	m.live.next, m.live.prev = 0, 0
}

// A link is a session's side of one shard: what of it is attached there.
type link struct {
	session   *Session
	number    uint32                // of the session's outcomes in this shard; 0 until it has one
	readers   optable.Table[uint32] // slots, by operation
	consumers map[uint64]*consumer
	parkedIn  map[uint32]int32 // with several shards: how many replies of the session wait for room, by pipe
	closed    bool
}

// A reader receives from a pipe. Readers lie in a slab: a waiting request has one.
type reader struct {
	link   *link
	op     uint64
	next   uint64 // the next sequence to hand out
	pipe   uint32
	credit uint32
	// unpassed is how many replies were handed out and the client has not passed: it passes one by giving credit for
	// another one.
	unpassed uint32
	// before and behind link the readers of a pipe, by slot.
	before, behind uint32
	ended          bool // the end was handed out; waits for word that it arrived
}

// linkReader puts a reader into the list of its pipe.
func (s *shard) linkReader(p *pipe, slot uint32) {
	r := s.readers.at(slot)
	if r.behind = p.live.readers; r.behind != 0 {
		s.readers.at(r.behind).before = slot
	}
	p.live.readers = slot
}

// unlinkReader takes a reader out of the list of its pipe.
func (s *shard) unlinkReader(p *pipe, r *reader) {
	if r.before != 0 {
		s.readers.at(r.before).behind = r.behind
	} else {
		p.live.readers = r.behind
	}
	if r.behind != 0 {
		s.readers.at(r.behind).before = r.before
	}
}

// readersOf gives the readers of a pipe.
func (s *shard) readersOf(p *pipe) iter.Seq[*reader] {
	return func(yield func(*reader) bool) {
		for slot := p.live.readers; slot != 0; {
			r := s.readers.at(slot)
			slot = r.behind
			if !yield(r) {
				return
			}
		}
	}
}

// A consumer takes deliveries.
type consumer struct {
	link       *link
	op         uint64
	id         string
	number     uint16 // made of id, see consumerNumber
	tenant     uint32
	seats      []*seat
	max        uint32
	inFlight   uint32
	credit     uint32
	bounded    bool // credit counts; else only max does
	stopping   bool
	away       bool          // was cut, and may come back: it only holds deliveries
	endErr     *Error        // with which it ends when it holds nothing any more
	leaseTime  time.Duration // 0: the queue's
	grace      time.Duration // how long it may be away
	held       messageList
	delivered  uint64
	deliveries uint64 // stop after so many; 0: never
	wait       time.Duration
	slot       uint32 // in the shard's slab of consumers with a timer; 0 if it has none
	activeAt   Time
	edge       *edge  // set for a part of a consumer over several shards: it holds max and credit, and takes deliveries
	allowed    uint32 // such a part: how many deliveries are being taken
	offered    bool   // such a part: it has told its edge that there is something to take
}

// waiting is a consumer's place in the timing wheel.
type waiting struct {
	consumer *consumer
	timer    timer
}

func (c *consumer) able() bool {
	if c.edge != nil {
		return !c.stopping && !c.offered
	}
	return !c.stopping && c.inFlight < c.max && (!c.bounded || c.credit > 0)
}

// A seat is a consumer's place at one of its queues.
type seat struct {
	consumer   *consumer
	queue      *queue
	seated     bool // in the queue's list of consumers with room
	next, prev *seat
}

type seatList struct{ head, tail *seat }

func (l *seatList) pushBack(s *seat) {
	s.seated, s.prev, s.next = true, l.tail, nil
	if l.tail != nil {
		l.tail.next = s
	} else {
		l.head = s
	}
	l.tail = s
}

func (l *seatList) remove(s *seat) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.head = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.tail = s.prev
	}
	s.seated, s.next, s.prev = false, nil, nil
}
