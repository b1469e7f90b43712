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
	bytes   int64 // of the tenant's quota
	pipes   int64 // likewise
}

// anything is the allowance where nothing is bounded.
var anything = allowance{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64} //nolint:gochecknoglobals // read only

// checkRoom refuses what there is no memory for, or no quota.
func (s *shard) checkRoom(tenant uint32, bytes, pipes int) *Error {
	t := s.st.usage.of(tenant)
	n := int64(bytes)
	switch a := &s.allowed; {
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

// checkReplyRoom refuses a reply that leaves its pipe open, when there is no memory for it.
func (s *shard) checkReplyRoom(r *Reply) *Error {
	if r.More && r.Kind == ReplyPayload && s.st.usage.fresh+int64(replySize+heapSize(len(r.Body))) > s.allowed.replies {
		return s.overloaded()
	}
	return nil
}

// countParked counts a reply that waits for room in its pipe, or with -1 takes it off.
func (s *shard) countParked(r *Reply, sign int64) {
	s.freshHeld += sign * int64(replySize+heapSize(len(r.Body)))
}

func (s *shard) overloaded() *Error {
	s.overloads++
	return &Error{
		Code: CodeResourceExhausted, Reason: ReasonServerOverloaded, RetryAfter: overloadRetry,
		Text: "the server has no memory for more; wait, then repeat. Settling, ending and cancelling go on",
	}
}
