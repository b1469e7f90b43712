package modeltest

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/replyq/replyq/broker"
)

// What a message and its pipe may do, one operation after the other; porcupine finds out whether the operations of many
// goroutines can have happened in such an order.

type deedKind uint8

const (
	deedCall deedKind = iota
	deedDelivery
	deedSettle
	deedReply
	deedCancel
	deedEnd
)

// An asked is what an operation was asked to do.
type asked struct {
	kind    deedKind
	attempt uint32 // whose lease it named; 0 if none
	action  broker.SettleAction
	more    bool
	ack     bool
}

// A told is what came of it.
type told struct {
	refused broker.Reason
	already bool
	result  broker.ReplyResult
	reason  broker.EndReason
	now     bool
	last    uint64
}

const mostAttempts = 16

// A pairState is a message with the pipe that was opened for it.
type pairState struct {
	state   messageState // 0: not there yet
	attempt uint32
	settled [mostAttempts]broker.SettleAction // by attempt
	end     broker.EndReason
	replies uint64
	replied uint32 // the attempt that replied last
	bare    bool   // has had a reply from nobody known
}

var pairModel = porcupine.Model{ //nolint:gochecknoglobals // constant
	Init: func() any { return pairState{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(pairState), input.(asked), output.(told) //nolint:errcheck // there are no others
		ok := s.step(in, out)
		return ok, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}

func (s *pairState) inForce(attempt uint32) bool { return s.state == leased && s.attempt == attempt }

// step reports whether an operation may have that outcome now, and makes the change.
func (s *pairState) step(in asked, out told) bool {
	switch in.kind {
	case deedCall:
		if s.state != 0 {
			return false
		}
		s.state = ready
	case deedDelivery:
		if s.state != ready || in.attempt != s.attempt+1 {
			return false
		}
		s.state, s.attempt = leased, in.attempt
	case deedSettle:
		return s.settle(in, out)
	case deedReply:
		return s.reply(in, out)
	case deedCancel:
		if !out.now {
			return s.state != 0 && s.end == out.reason && s.end != 0
		}
		if s.state == 0 || s.end != 0 {
			return false
		}
		s.end = broker.EndCancelled
		if s.state == ready {
			s.state = gone
		}
	case deedEnd:
		return s.end != 0 && s.end == out.reason && s.replies == out.last
	}
	return true
}

func (s *pairState) settle(in asked, out told) bool {
	if out.refused != "" {
		return out.refused == broker.ReasonLeaseStale && !s.inForce(in.attempt)
	}
	if out.already {
		return !s.inForce(in.attempt) && s.settled[in.attempt] == in.action
	}
	if !s.inForce(in.attempt) {
		return false
	}
	s.settled[in.attempt] = in.action
	switch in.action {
	case broker.Ack:
		s.acked(in.attempt)
	case broker.Reject:
		s.state = dead
		if s.end == 0 {
			s.end = broker.EndRejected
		}
	default:
		s.state = ready
		if s.end == broker.EndCancelled {
			s.state = gone
		}
	}
	return true
}

func (s *pairState) acked(attempt uint32) {
	s.state = gone
	if s.end != 0 {
		return
	}
	s.end = broker.EndBroken
	if s.bare || s.replied == attempt {
		s.end = broker.EndOK
	}
}

func (s *pairState) reply(in asked, out told) bool {
	if out.refused != "" {
		return out.refused == broker.ReasonLeaseStale && in.attempt != 0 && !s.inForce(in.attempt)
	}
	if in.attempt != 0 && !s.inForce(in.attempt) {
		// Acked a moment ago, perhaps by this very reply.
		return s.settled[in.attempt] == broker.Ack && s.end != 0 && out.result.Outcome == broker.ReplyEnded && out.result.EndReason == s.end
	}
	switch out.result.Outcome {
	case broker.ReplyEnded:
		if s.end == 0 || s.end != out.result.EndReason {
			return false
		}
	case broker.ReplyDelivered, broker.ReplyBuffered:
		if s.state == 0 || s.end != 0 || out.result.Sequence != s.replies+1 {
			return false
		}
		s.replies++
		if in.attempt != 0 {
			s.replied = in.attempt
		} else {
			s.bare = true
		}
		if !in.more {
			s.end = broker.EndOK
		}
	default:
		return false
	}
	if in.ack {
		s.settled[in.attempt] = broker.Ack
		s.acked(in.attempt)
	}
	return true
}
