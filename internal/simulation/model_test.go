package simulation_test

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/replyq/replyq/client"
)

// What a message and a pipe may do, as models for porcupine: histories are right if there is an order of their operations,
// each at some moment between its beginning and its end, that a model allows.

// Kinds of operations.
const (
	deliver = "deliver"
	ack     = "ack"
	reject  = "reject"
	retry   = "retry"

	more   = "more"   // a reply that keeps the pipe open
	last   = "last"   // one that does not
	fail   = "fail"   // an error
	cancel = "cancel" // by the caller
	expire = "expire"
	end    = "end" // what the caller saw at last
)

type messageInput struct {
	kind    string
	attempt uint32
	// before is the attempt that was seen to be given out before this one; 0 for none. Without it there would be as many
	// orders to try as there are sets of attempts.
	before uint32
}

type messageState struct {
	attempt uint32 // the last that was given out, of those that were seen
	leased  bool   // it was not settled since, by this
	gone    bool
}

// messageModel: attempts rise, only the newest settles, and what is gone never comes again.
var messageModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{messageState{}} },
	Step: func(state, input, out any) []any {
		s, in, o := state.(messageState), input.(messageInput), out.(output) //nolint:errcheck // they are what was put in
		if o.refused {
			return []any{s}
		}
		next := s
		switch {
		case in.kind == deliver && !s.gone && in.before == s.attempt:
			next = messageState{attempt: in.attempt, leased: true}
		case in.kind != deliver && !s.gone && s.leased && s.attempt == in.attempt:
			next.leased, next.gone = false, in.kind != retry
		case o.unknown:
			return []any{s}
		default:
			return nil
		}
		if o.unknown {
			return []any{s, next}
		}
		return []any{next}
	},
	DescribeOperation: describe,
}).ToModel()

type pipeInput struct {
	kind    string
	attempt uint32
}

type pipeState struct {
	replies uint64
	by      uint32 // the attempt that replied last
	reason  client.Reason
}

// pipeModel: replies are numbered without a gap, the first end counts, and everybody is told the truth about it.
var pipeModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{pipeState{}} },
	Step: func(state, input, out any) []any {
		s, in, o := state.(pipeState), input.(pipeInput), out.(output) //nolint:errcheck // they are what was put in
		if o.refused {
			return []any{s}
		}
		if o.unknown {
			return []any{s, s.after(in)}
		}
		switch {
		case in.kind == end:
			if s.reason != o.reason || s.replies != o.last {
				return nil
			}
			return []any{s}
		case o.status == client.ReplyEnded:
			if s.reason != o.reason {
				return nil
			}
			return []any{s}
		case o.status == client.ReplyUnknown:
			if s.reason == "" {
				return nil
			}
			return []any{s}
		case o.status != 0 && (s.reason != "" || o.last != 0 && o.last != s.replies+1):
			return nil
		}
		return []any{s.after(in)}
	},
	DescribeOperation: describe,
}).ToModel()

// after is the state after an operation that was carried out.
func (s pipeState) after(in pipeInput) pipeState {
	if s.reason != "" {
		return s
	}
	switch in.kind {
	case more, last:
		s.replies++
		s.by = in.attempt
		if in.kind == last {
			s.reason = client.EndOK
		}
	case fail:
		s.reason = client.ErrFailed
	case cancel:
		s.reason = client.ErrCancelled
	case expire:
		s.reason = client.ErrExpired
	case reject:
		s.reason = client.ErrRejected
	case ack:
		s.reason = client.ErrBroken
		if s.by == in.attempt {
			s.reason = client.EndOK
		}
	}
	return s
}

func describe(input, out any) string { return fmt.Sprintf("%+v: %+v", input, out) }
