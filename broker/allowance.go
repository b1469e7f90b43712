package broker

import (
	"fmt"
	"math"
)

// An allowance is what an operation may add, as far as the shell knows: what the shard has added since the shell took
// notice comes off.
type allowance struct {
	memory  int64 // bytes of new messages and pipes
	replies int64 // bytes of replies that do not end their pipe
	last    int64 // bytes that come with what frees memory: replies that end their pipe, and what a Settle carries
	bytes   int64 // of the tenant's quota
	pipes   int64 // likewise

	diskFull bool // nothing new is taken: there is hardly any room on the disk
}

// anything is the allowance where nothing is bounded.
var anything = allowance{memory: math.MaxInt64, replies: math.MaxInt64, last: math.MaxInt64, bytes: math.MaxInt64, pipes: math.MaxInt64} //nolint:gochecknoglobals // read only

// checkRoom refuses what there is no memory for, or no quota.
func (s *shard) checkRoom(tenant uint32, bytes, pipes int) *Error {
	t := s.st.usage.of(tenant)
	n := int64(bytes)
	switch a := &s.allowed; {
	case a.diskFull && (bytes > 0 || pipes > 0):
		return errDiskFull()
	case s.st.usage.fresh+n > a.memory:
		return s.overloaded()
	case t.freshBytes+n > a.bytes:
		return &Error{
			Code: CodeResourceExhausted, Reason: ReasonTenantQuota, RetryAfter: overloadRetry,
			Text: "the tenant has as much stored as it may; wait until some of it is settled, or add consumers",
		}
	case pipes > 0 && t.freshPipes+int64(pipes) > a.pipes:
		return &Error{
			Code: CodeResourceExhausted, Reason: ReasonPipeQuota, Field: "pipe", RetryAfter: overloadRetry,
			Text: fmt.Sprintf("the tenant has %d pipes open and may have no more; end or cancel some, or give them shorter timeouts",
				t.pipes),
		}
	}
	return nil
}

// checkReplyRoom refuses a reply when there is no memory for it: one that leaves its pipe open, and when nothing at all is
// left, one that brings much.
func (s *shard) checkReplyRoom(r *Reply) *Error {
	if !r.More || r.Kind != ReplyPayload {
		return s.checkLastRoom(len(r.Body))
	}
	if s.allowed.diskFull {
		return errDiskFull()
	}
	if s.st.usage.fresh+int64(replySize+heapSize(len(r.Body))) > s.allowed.replies {
		return s.overloaded()
	}
	return nil
}

// checkSettleRoom does so for what a Settle carries.
func (s *shard) checkSettleRoom(r *Settle) *Error {
	n := 0
	for _, reply := range r.Replies {
		n += len(reply.Body)
	}
	for _, e := range r.Messages {
		n += len(e.Body)
	}
	return s.checkLastRoom(n)
}

// checkLastRoom refuses what brings more than it frees when the memory is full.
func (s *shard) checkLastRoom(n int) *Error {
	if n > freedAtLeast && s.st.usage.fresh+int64(heapSize(n)) > s.allowed.last {
		return s.overloaded()
	}
	return nil
}

// freedAtLeast is about what a pipe that has ended, or a message that was settled, gives back.
const freedAtLeast = 256

// countParked counts a reply that waits for room in its pipe, or with -1 takes it off.
func (s *shard) countParked(l *link, r *Reply, sign int32) {
	l.session.parked.Add(sign)
	if l.session.where != nil { // see unparkFor
		if l.parkedIn == nil {
			l.parkedIn = make(map[uint32]int32)
		}
		slot := r.Handle.Slot()
		if l.parkedIn[slot] += sign; l.parkedIn[slot] == 0 {
			delete(l.parkedIn, slot)
		}
	}
	s.freshHeld += int64(sign) * int64(replySize+heapSize(len(r.Body)))
}

func (s *shard) overloaded() *Error {
	s.overloads++
	return &Error{
		Code: CodeResourceExhausted, Reason: ReasonServerOverloaded, RetryAfter: overloadRetry,
		Text: "the server has no memory for more; wait, then repeat. Settling, ending and cancelling go on",
	}
}

func errDiskFull() *Error {
	return &Error{
		Code: CodeResourceExhausted, Reason: ReasonDiskFull, RetryAfter: overloadRetry,
		Text: "the server's disk is nearly full; wait, then repeat. Settling, ending and cancelling go on",
	}
}

// SetDiskFull says whether the disk is nearly full. While it is, new messages and pipes are refused with DISK_FULL, and replies
// with more; what lets go of things goes on.
func (b *Broker) SetDiskFull(full bool) { b.budget.diskFull.Store(full) }
