package client

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
)

// outcomesKept is how long after a session's last use the server surely still knows the outcomes of its operations; it
// says 60 s.
const outcomesKept = 55 * time.Second

// attach gives the link a new stream, and brings over what is open; see the package comment.
func (l *link) attach(s *stream, greeting *queuepb.GetServerInfoResponse) {
	anew, resumed, results := l.reconcile(greeting)
	for i := range results {
		if r := &results[i]; !r.op.abandoned {
			r.op.sink.result(r)
		}
	}
	bodies := make([][]byte, len(resumed))
	for i, op := range resumed {
		bodies[i] = op.sink.resume(anew)
	}

	l.mu.Lock()
	var front operations
	for i, op := range resumed {
		switch {
		case op.state != opAnswered: // it was left meanwhile
		case bodies[i] == nil:
			l.unlinkLocked(op)
		default:
			l.ops.Delete(op.id)
			op.body, op.id, op.state = bodies[i], 0, opQueued
			op.kind = resumedKind(op.kind)
			front.push(op)
		}
	}
	l.prependLocked(front)
	l.stream = s
	l.leaving.Store(s.away && s.replicated)
	l.client.wg.Go(func() { l.write(s) })
	l.sendLocked(false)
}

// resumedKind is the kind with which an answered operation goes on.
func resumedKind(k opKind) opKind {
	if k == opCall {
		return opReceive
	}
	return k
}

// prependLocked puts operations before the queue.
func (l *link) prependLocked(front operations) {
	for op := l.queue.first; op != nil; {
		next := op.next
		front.push(op)
		op = next
	}
	l.queue = front
}

// reconcile decides what becomes of the open operations on a new stream: some are sent again, some go on by another
// request (resumed), some have their result now. anew says that the server has lost its memory.
func (l *link) reconcile(greeting *queuepb.GetServerInfoResponse) (anew bool, resumed []*operation, results []result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeGreetingLocked(greeting)
	anew = l.epoch != "" && l.epoch != greeting.GetBootEpoch()
	l.epoch = greeting.GetBootEpoch()
	forgotten := !anew && !l.lostAt.IsZero() && time.Since(l.lostAt) > outcomesKept

	for _, op := range l.ops.All() {
		if (*op).state == opAnswered {
			resumed = append(resumed, *op)
		}
	}
	l.again = l.again[:0]
	var front operations
	for op := l.unanswered.first; op != nil; {
		next := op.next
		switch {
		case op.abandoned:
			l.unlinkLocked(op)
		case op.kind == opConsume || anew && op.kind == opReceive:
			// Its request names leases or a handle of before: it is made again.
			l.leaveWindowLocked(op)
			op.state = opAnswered
			resumed = append(resumed, op)
		case anew && op.kind.namesPast():
			results = append(results, op.pastResult())
			l.unlinkLocked(op)
		case forgotten && !op.repeatable && !op.kind.harmless():
			results = append(results, result{op: op, done: true, err: unknownOutcome()})
			l.unlinkLocked(op)
		case anew:
			// Nobody confirmed it, and the server that may have carried it out is gone with all it had: as a new
			// operation it happens once.
			l.leaveWindowLocked(op)
			l.ops.Delete(op.id)
			op.id, op.state = 0, opQueued
			front.push(op)
			if op.kind.finishes() {
				l.finishing++
			}
		default:
			op.late = op.late || forgotten
			l.again = append(l.again, op)
		}
		op = next
	}
	l.prependLocked(front)
	l.toldBelow, l.received, l.toldReceived = 0, 0, 0
	return anew, resumed, results
}

func (l *link) takeGreetingLocked(g *queuepb.GetServerInfoResponse) {
	l.window, l.maxFrame = defaultWindow, defaultFrameBytes
	l.maxPayload = int(min(g.GetLimits().GetPayloadBytes(), maxMessage))
	if n := g.GetLimits().GetWindowOperations(); n > 0 {
		l.window = int(n)
	}
	if n := g.GetLimits().GetFrameBytes(); n > 1024 {
		l.maxFrame = int(min(n, maxMessage))
	}
	if g.GetNow() != nil {
		l.skew = time.Until(g.GetNow().AsTime())
	}
}

// namesPast tells whether a request names a lease or a handle, which a server that was started anew does not know.
func (k opKind) namesPast() bool {
	return k == opReply || k == opSettle || k == opExtend || k == opCancel
}

// pastResult is what such a request comes to: the lease is gone, the pipe has ended with the server that kept it.
func (op *operation) pastResult() result {
	r := result{op: op, kind: op.kind, done: true}
	switch {
	case op.leased:
		r.err = &Error{Code: codes.NotFound, Reason: ReasonLeaseUnknown, Outcome: OutcomeUnknown,
			Message: "the server was started anew and keeps no journal: the lease is gone"}
	case op.kind == opCancel:
		r.body, _ = (&queuepb.CancelResponse{Reason: queuepb.EndReason_END_REASON_LOST}).MarshalVT()
	default:
		r.body, _ = (&queuepb.ReplyResponse{Result: &queuepb.ReplyResult{
			Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED, EndReason: queuepb.EndReason_END_REASON_LOST,
		}}).MarshalVT()
	}
	return r
}

func unknownOutcome() *Error {
	return &Error{Code: codes.Unavailable, Reason: ErrOutcomeUnknown, Outcome: OutcomeUnknown,
		Message: "the connection was lost before the answer, for longer than the server remembers"}
}

// failUnanswered ends what was sent and not answered, and begins a new session, which has no history.
func (l *link) failUnanswered(err error) {
	l.mu.Lock()
	var results []result
	for op := l.unanswered.first; op != nil; op = l.unanswered.first {
		l.unlinkLocked(op)
		results = append(results, result{op: op, done: true, err: err})
	}
	l.sessionID = newSessionID()
	l.mu.Unlock()
	l.handOut(results)
}

// failAll ends everything in the link.
func (l *link) failAll(err *Error) {
	l.mu.Lock()
	var results []result
	for op := l.queue.first; op != nil; op = l.queue.first {
		unsent := *err
		unsent.Outcome = OutcomeNotApplied
		l.unlinkLocked(op)
		results = append(results, result{op: op, done: true, err: &unsent})
	}
	for _, op := range l.ops.All() {
		results = append(results, result{op: *op, done: true, err: err})
	}
	for i := range results {
		if op := results[i].op; op.state != opDone {
			l.unlinkLocked(op)
		}
	}
	l.again = nil
	l.mu.Unlock()
	l.handOut(results)
}

func (l *link) handOut(results []result) {
	for i := range results {
		if r := &results[i]; !r.op.abandoned {
			r.op.sink.result(r)
		}
	}
}
