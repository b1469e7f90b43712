package broker

import (
	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// A shard is a set of queues and the pipes opened with them: a state machine without clock, randomness, goroutines or
// I/O. It is called with the time and an operation, decides by reading, makes its decision true by committing facts, and
// leaves events for clients in out. One caller at a time.
type shard struct {
	st    *state
	wheel *wheel
	now   Time
	// draw gives 64 random bits; they come from outside so that a history can be repeated.
	draw func() uint64

	// out gathers events until the shell hands them over, in this order.
	out []outgoing
	// sends gathers what other shards shall do, until the shell carries it over; the outbox keeps it as well.
	sends []*factpb.Sent
	// notes are for the edges of consumers over several shards; the shell hands them over.
	notes []edgeNote
	// work is what follows from facts just committed: it is done before the call returns.
	work []work

	// journalled says that facts are wanted in encoded form.
	journalled bool
	facts      []byte // a factpb.Batch

	// allowed is what the operations at hand may add, and pressed that memory is short: both are the shell's word.
	allowed allowance
	pressed bool
	// freshHeld is what replies that wait for room take more since the shell took notice.
	freshHeld int64
	// overloads is how often something was refused for want of memory since then.
	overloads uint64

	noAutoCreate bool
	maxKeys      int
	draining     bool
	frozen       bool   // it goes on in the next run of the process
	pardonUntil  Time   // until then nobody loses anything for having been silent, since the journal had stalled
	endedUpTo    uint32 // pipes in slots up to it were ended because the server stops

	chores    []*chore // one is under way, the others wait
	consumers map[consumerKey]*consumer
	away      map[awayKey]*consumer
	orphans   map[uint16][]uint32 // deliveries from before a restart, by the numbers of their consumers; some are over
	waiting   slab[waiting]
	readers   slab[reader]
	retired   retiredPipes
	keysTimer timer // when the oldest idempotency key is forgotten
	// answers are operations whose events wait for other shards, by outbox target and number.
	answers map[sentKey]answerPart

	scratch scratch
	spent   spentBodies
}

// outgoing is an event on its way to a session.
type outgoing struct {
	session *Session
	event   Event
}

type consumerKey struct {
	tenant uint32
	id     string
}

// scratch holds one of each frequent fact, so that committing it allocates nothing.
type scratch struct {
	enqueued  factpb.Enqueued
	opened    factpb.PipeOpened
	leased    factpb.Leased
	gone      factpb.Gone
	replied   factpb.Replied
	trimmed   factpb.RepliesTrimmed
	ended     factpb.PipeEnded
	read      factpb.PipeRead
	forgotten factpb.PipeForgotten
	outcome   factpb.Outcome
	opRef     factpb.OpRef
}

func newShard(number uint16, store uint32, now Time, draw func() uint64) *shard {
	s := &shard{
		st: newState(number, store), now: now, draw: draw, allowed: anything,
		consumers: make(map[consumerKey]*consumer),
		away:      make(map[awayKey]*consumer),
		orphans:   make(map[uint16][]uint32),
		answers:   make(map[sentKey]answerPart),
	}
	s.wheel = newWheel(now, s.timer)
	return s
}

func (s *shard) timer(ref timerRef) *timer {
	switch ref.kind {
	case timerMessage:
		return &s.st.messages.at(ref.slot).live.timer
	case timerPipe:
		return &s.st.pipes.at(ref.slot).live.timer
	case timerConsumer:
		return &s.waiting.at(ref.slot).timer
	case timerKeys:
		return &s.keysTimer
	default:
		return &s.st.sessions[ref.slot].live.timer
	}
}

// advance moves the shard's time and does what is due. Time never goes back.
func (s *shard) advance(now Time) {
	s.now = max(s.now, now)
	s.wheel.expire(s.now, s.fire)
	s.finish()
	if len(s.chores) > 0 {
		s.stepChore()
	}
}

func (s *shard) fire(ref timerRef) {
	switch ref.kind {
	case timerMessage:
		s.fireMessage(ref.slot)
	case timerPipe:
		s.firePipe(ref.slot)
	case timerSession:
		s.fireSession(ref.slot)
	case timerConsumer:
		s.fireConsumer(ref.slot)
	case timerKeys:
		s.fireKeys()
	}
	s.finish()
}

// commit makes a fact true.
func (s *shard) commit(f fact) {
	s.st.apply(f)
	if s.journalled {
		s.facts = appendFact(s.facts, f)
	}
}

// emit leaves an event for a client.
func (s *shard) emit(l *link, op uint64, done bool, body any) {
	s.out = append(s.out, outgoing{l.session, Event{Op: op, Done: done, Body: body}})
}

// patiently marks the event that was left last: it is the answer to an operation, which may say that it can wait.
func (s *shard) patiently(op *Op) { s.out[len(s.out)-1].event.patient = op.Patient }

// refuse answers an operation with an error; it has changed nothing.
func (s *shard) refuse(l *link, op uint64, err *Error) { s.emit(l, op, true, err) }

// do carries out one operation. pre holds what was prepared on other shards; nil if nothing was.
func (s *shard) do(l *link, op *Op, pre *prepared) {
	switch r := op.Request.(type) {
	case *Enqueue:
		s.enqueue(l, op, r, pre)
	case *Reply:
		s.reply(l, op, r, pre)
	case *Settle:
		s.settle(l, op, r, pre)
	case *Consume:
		s.consume(l, op, r)
	case *Receive:
		s.receive(l, op, r)
	case *ExtendLeases:
		s.extendLeases(l, op, r)
	case *StopConsuming:
		s.stopConsuming(l, op, r)
	case *OpenPipe:
		s.openPipe(l, op, r, pre)
	case *Cancel:
		s.cancel(l, op, r)
	case *Describe:
		s.describe(l, op, r)
	case *CreateQueue:
		s.createQueue(l, op, r)
	case *UpdateQueue:
		s.updateQueue(l, op, r)
	case *DeleteQueue:
		s.deleteQueue(l, op, r)
	case *PurgeQueue:
		s.purgeQueue(l, op, r)
	case *ListMessages:
		s.listMessages(l, op, r)
	case *DeleteMessages:
		s.deleteMessages(l, op, r)
	case *RedriveMessages:
		s.redriveMessages(l, op, r)
	case *EndPipe:
		s.endPipe(l, op, r)
	case *ListQueues:
		s.listQueues(l, op, r)
	}
	s.finish()
}

// work is something that follows from a committed fact.
type work struct {
	kind    workKind
	pipe    pipeRef
	carrier carrierRef
	reason  EndReason
	receive bool // the carrier that was lost carried the receive handle
	replied bool
	replyTo bool
	queue   *queue
	sent    *factpb.Sent
}

type workKind uint8

const (
	workCarrierLost workKind = iota + 1 // a pipe lost a carrier
	workWaiterEnded                     // the pipe of a message's reply_to ended
	workDispatch                        // a queue may have something for a consumer
	workFeed                            // a pipe may have something for the pipes it feeds
	workParked                          // a pipe may have room for a parked reply
	workWithdraw                        // a queue may have no consumer left, and messages that need one
	workSent                            // something that would go to another shard stays in this one
)

// finish does all the work that has come up. What comes up goes behind, so that chains of consequences need no stack.
func (s *shard) finish() {
	for i := 0; i < len(s.work); i++ {
		w := s.work[i]
		switch w.kind {
		case workCarrierLost:
			s.carrierLost(w)
		case workWaiterEnded:
			s.waiterEnded(w.carrier, w.reason)
		case workDispatch:
			s.dispatch(w.queue)
		case workFeed:
			s.feedOthers(w.pipe)
		case workParked:
			s.retryParked(w.pipe)
		case workWithdraw:
			s.withdrawRequired(w.queue)
		case workSent:
			s.receiveSent(w.sent)
		}
	}
	clear(s.work)
	s.work = s.work[:0]
}

func (s *shard) later(w work) { s.work = append(s.work, w) }

// claims describes a handle of one of this shard's pipes, to be minted by the server.
func (s *shard) claims(kind handles.Kind, slot uint32, p *pipe) handles.Claims {
	return handles.Claims{
		Kind: kind, Tenant: p.tenant, Shard: s.st.shard, Store: s.st.store, Slot: slot, Nonce: p.nonce,
		Expires: int64((p.deadline + handleSlack) / 1e9),
	}
}

// handleSlack is how long a handle outlives its pipe's deadline.
const handleSlack = Time(120e9)

// pipeByHandle finds the pipe of a handle, if it is in this shard; else it is nil.
func (s *shard) pipeByHandle(h handles.Handle) (slot uint32, p *pipe) {
	if h.Store() != s.st.store {
		return 0, nil
	}
	return h.Slot(), s.st.pipe(pipeRef{h.Shard(), h.Slot(), h.Nonce()})
}

// resolved is what is known of a handle's pipe.
type resolved struct {
	ref      pipeRef
	unknown  bool // forgotten, or never existed
	ended    bool
	deadline Time
}

// resolve looks a handle up: here, or in what was prepared on other shards.
func (s *shard) resolve(h handles.Handle, pre *prepared) resolved {
	ref := pipeRef{h.Shard(), h.Slot(), h.Nonce()}
	if h.Store() != s.st.store {
		return resolved{ref: ref, ended: true}
	}
	if ref.shard == s.st.shard {
		return s.look(ref)
	}
	if pre != nil {
		if r, ok := pre.holds[h]; ok {
			return r
		}
	}
	return resolved{ref: ref, unknown: true}
}

func (s *shard) look(ref pipeRef) resolved {
	p := s.st.pipe(ref)
	if p == nil {
		return resolved{ref: ref, unknown: true}
	}
	return resolved{ref: ref, ended: p.state != pipeOpen && p.state != pipeSpliced, deadline: p.deadline}
}

func errHandleUnknown(field string) *Error {
	return &Error{
		Code: CodeNotFound, Reason: ReasonHandleUnknown, Field: field,
		Text: "the server does not know this handle; its pipe may have been forgotten. Open a new pipe",
	}
}
