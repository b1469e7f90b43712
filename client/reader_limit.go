package client

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
)

// This file is about readers whose pipe's deadline passes while nobody can tell them how it ended.

const (
	// limitLook is how long after its pipe's deadline a reader is looked at, and limitEnd how long after that it ends if
	// nothing has come meanwhile. Together they are less than the 2 s that a waiter is promised.
	limitLook = 250 * time.Millisecond
	limitEnd  = 1250 * time.Millisecond
	// defaultTimeout is how long a pipe is open whose options name no timeout.
	defaultTimeout = time.Hour
)

// limitLocked has the reader looked at when its pipe's deadline has passed, unless its context ends before.
func (r *reader) limitLocked() {
	switch {
	case r.deadline != 0:
	case r.timeout != 0:
		// Up to two ticks late, which the receipt mends.
		r.deadline = time.Now().Add(r.timeout).UnixNano()
	default:
		return // nothing is known yet; a receive is told when it is attached
	}
	at := time.Unix(0, r.deadline)
	if end, ok := r.ctx.Deadline(); ok && end.Before(at.Add(limitLook)) {
		return
	}
	r.limit = time.AfterFunc(time.Until(at)+limitLook, r.overdue)
}

// overdue ends a reader whose pipe's deadline has passed: nothing lies unread in it, and nothing has come between two
// looks at it. Then the connection is lost, or dead, for too long.
func (r *reader) overdue() {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return
	}
	if r.receipt != nil && !r.dated {
		r.dated = true
		var p queuepb.Receipt
		if p.UnmarshalVT(r.receipt) == nil && p.GetPipeDeadline() != nil {
			r.deadline = p.GetPipeDeadline().AsTime().Add(-r.link.clockSkew()).UnixNano()
		}
	}
	if left := time.Until(time.Unix(0, r.deadline)) + limitLook; left > 0 {
		r.seen = 0
		r.limit.Reset(left)
		r.mu.Unlock()
		return
	}
	// Where replies lie unread, the server may wait for room.
	if unread := r.head < len(r.replies) && !r.lastOnly; unread || r.seen != r.next {
		r.seen = r.next
		r.limit.Reset(limitEnd)
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	if r.finish(&Error{
		Code: codes.DeadlineExceeded, Reason: ErrExpired, Outcome: OutcomeUnknown,
		Message: "the pipe's deadline has passed, and how it ended is not known: " + r.link.waitsFor("its end"),
	}) {
		r.link.leave(&r.operation)
	}
}

// attachedLocked takes what the first answer of a receive tells.
func (r *reader) attachedLocked(bytes []byte) {
	var p queuepb.Attached
	if p.UnmarshalVT(bytes) != nil || p.GetDeadline() == nil {
		return
	}
	r.dated = true
	r.deadline = p.GetDeadline().AsTime().Add(-r.link.clockSkew()).UnixNano()
	if r.watched && r.limit == nil {
		r.limitLocked()
	}
}
