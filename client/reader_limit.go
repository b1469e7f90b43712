package client

import (
	"math"
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
	// timeoutUnit is the unit in which a reader knows its pipe's timeout: so it takes no room.
	timeoutUnit = 50 * time.Millisecond
)

func timeoutUnits(d time.Duration) uint32 {
	return uint32(min(max(d/timeoutUnit, 1), math.MaxUint32)) //nolint:gosec // within the range
}

// readerLimit is what a reader knows of its pipe's deadline.
type readerLimit struct {
	timer    *time.Timer // nil while there is no need
	deadline time.Time   // by our clock; zero while it is not known
	told     bool        // deadline is the server's word
	seen     uint64      // reader.next, at the last look
}

// Stop ends the watch.
func (l *readerLimit) Stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// limitLocked has the reader looked at when its pipe's deadline has passed. It is called when the reader is not young any
// more.
func (r *reader) limitLocked() {
	if r.limit == nil {
		if r.cancels && r.timeout == 0 {
			return // a call whose context ends first
		}
		r.limit = &readerLimit{}
		if r.timeout != 0 { // up to two ticks late, which the receipt mends
			r.limit.deadline = time.Now().Add(time.Duration(r.timeout) * timeoutUnit)
		}
	}
	if r.limit.deadline.IsZero() {
		return // a receive that is not attached yet
	}
	at := r.limit.deadline.Add(limitLook)
	if end, ok := r.ctx.Deadline(); r.limit.timer == nil && (!ok || end.After(at)) {
		r.limit.timer = time.AfterFunc(time.Until(at), r.overdue)
	}
}

// overdue ends a reader whose pipe's deadline has passed: nothing lies unread in it, and nothing has come between two
// looks at it. Then the connection is lost, or dead, for too long.
func (r *reader) overdue() {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return
	}
	l := r.limit
	if r.receipt != nil && !l.told {
		var p queuepb.Receipt
		if p.UnmarshalVT(r.receipt) == nil && p.GetPipeDeadline() != nil {
			l.told, l.deadline = true, p.GetPipeDeadline().AsTime().Add(-r.link.clockSkew())
		}
	}
	// Where replies lie unread, the server may wait for room.
	unread := r.head < len(r.replies) && !r.lastOnly
	left := time.Until(l.deadline) + limitLook
	switch {
	case left > 0:
	case unread || l.seen != r.next:
		left, l.seen = limitEnd, r.next
	}
	if left > 0 {
		l.timer.Reset(left)
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
	young := r.limit == nil
	if young {
		r.limit = &readerLimit{}
	}
	r.limit.told, r.limit.deadline = true, p.GetDeadline().AsTime().Add(-r.link.clockSkew())
	if !young {
		r.limitLocked()
	}
}
