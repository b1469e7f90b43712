package client

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
)

// This file is about how a reader ends before its pipe does, and how it goes on after its stream was lost.

// watch implements watcher: the reader is old enough for its context, and its pipe's deadline, to be watched.
func (r *reader) watch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return
	}
	r.limitLocked()
	if r.ctx.Done() != nil && r.unwatch == nil {
		r.unwatch = context.AfterFunc(r.ctx, r.contextEnded)
	}
}

// contextEnded ends the reader with its context: the pipe of a call is cancelled, others are only left.
func (r *reader) contextEnded() {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return
	}
	var final error
	if r.refusal != nil {
		e := *r.refusal
		e.cause = r.ctx.Err()
		final = &e
	}
	answered := r.receipt != nil
	r.mu.Unlock()
	if final == nil {
		outcome := OutcomeUnspecified
		if r.cancels && !answered {
			outcome = OutcomeUnknown
		}
		final = contextError(r.ctx, r.link.waitsFor("a reply"), outcome)
	}
	switch {
	case !r.finish(final):
	case r.cancels:
		r.cancelPipe(r.ctx.Err().Error())
	default:
		r.link.leave(&r.operation)
	}
}

// cancelPipe asks the server to end the pipe of a call: at once if the receipt is there, else when it comes. A call that
// was never sent ends here.
func (r *reader) cancelPipe(why string) {
	if r.link.withdraw(&r.operation) {
		r.finish(&EndError{Reason: ErrCancelled, Err: &Error{
			Code: codes.Canceled, Reason: ErrCancelled, Message: "cancelled before it was sent", Outcome: OutcomeNotApplied}})
		return
	}
	r.mu.Lock()
	r.canceled = true
	token := r.tokenLocked()
	r.mu.Unlock()
	if token == "" {
		r.link.expectMore(&r.operation)
		return
	}
	t := newTask(opCancel, nil)
	t.body = appendRequest(t.body, opCancel, &queuepb.CancelRequest{
		Handle: &queuepb.Handle{Token: token}, Message: cut(why, maxCancelMessage)})
	_ = r.link.submitNow(&t.operation) // fails only when the client is closed, which abandons the pipe
}

// maxCancelMessage is how long the server lets the message of a Cancel be.
const maxCancelMessage = 1024

// tokenLocked is the receive handle's token, "" while it is not known.
func (r *reader) tokenLocked() string {
	if r.handle == "" && r.receipt != nil {
		var p queuepb.Receipt
		if p.UnmarshalVT(r.receipt) == nil {
			r.handle = p.GetReceiveHandle().GetToken()
		}
	}
	return r.handle
}

// refused ends the reader with a refusal, or has the request repeated if the server asks for patience.
func (r *reader) refused(e *Error) {
	d, again := e.repeatAfter()
	r.mu.Lock()
	if !again || r.done || r.canceled || r.body == nil {
		r.mu.Unlock()
		r.finish(e)
		return
	}
	r.refusal = e
	r.retry = time.AfterFunc(spread(d), r.repeat)
	if r.unwatch == nil && r.ctx.Done() != nil {
		r.unwatch = context.AfterFunc(r.ctx, r.contextEnded) // meanwhile the link does not know it
	}
	r.mu.Unlock()
}

// repeat submits the request once more.
func (r *reader) repeat() {
	r.mu.Lock()
	gone := r.done || r.canceled
	r.mu.Unlock()
	if gone {
		return
	}
	if err := r.link.submitNow(&r.operation); err != nil {
		r.finish(err)
	}
}

// resume implements sink: the reader goes on with the reply after the last that came.
func (r *reader) resume(anew bool) []byte {
	if anew {
		r.finish(lostError())
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	token := r.tokenLocked()
	if token == "" || r.done {
		return nil
	}
	// What lies here unread counts for the new operation as well; and 0 would mean the default.
	r.credit = uint32(max(readerCredit-(len(r.replies)-r.head), 1))
	r.grantedLocked()
	r.between = true
	return appendReceive(nil, token, r.next)
}

// withdraw takes back an operation that was not sent.
func (l *link) withdraw(op *operation) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if op.state != opQueued {
		return false
	}
	l.unlinkLocked(op)
	return true
}
