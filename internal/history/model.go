package history

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replyq/replyq/client"
)

// What a message and a pipe may do, as models for porcupine: histories are right if there is an order of their operations,
// each at some moment between its beginning and its end, that a model allows.

// Kinds of operations.
const (
	Deliver = "deliver"
	Ack     = "ack"
	Reject  = "reject"
	Retry   = "retry"

	More   = "more"   // a reply that keeps the pipe open
	Last   = "last"   // one that does not
	Fail   = "fail"   // an error
	Cancel = "cancel" // by the caller
	Expire = "expire"
	End    = "end" // what the caller saw at last
)

// MessageInput is what somebody does with a message.
type MessageInput struct {
	Kind    string
	Attempt uint32
	// Before is the attempt that was seen to be given out before this one; 0 for none. Without it there would be as many
	// orders to try as there are sets of attempts.
	Before uint32
}

type messageState struct {
	attempt uint32 // the last that was given out, of those that were seen
	leased  bool   // it was not settled since, by this
	gone    bool
}

// MessageModel says that attempts rise, only the newest settles, and what is gone never comes again.
var MessageModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{messageState{}} },
	Step: func(state, input, out any) []any {
		s, in, o := state.(messageState), input.(MessageInput), out.(Output) //nolint:errcheck // they are what was put in
		if o.Refused {
			return []any{s}
		}
		next := s
		switch {
		case in.Kind == Deliver && !s.gone && in.Before == s.attempt:
			next = messageState{attempt: in.Attempt, leased: true}
		case in.Kind != Deliver && !s.gone && s.leased && s.attempt == in.Attempt:
			next.leased, next.gone = false, in.Kind != Retry
		case o.Unknown:
			return []any{s}
		default:
			return nil
		}
		if o.Unknown {
			return []any{s, next}
		}
		return []any{next}
	},
	DescribeOperation: describe,
}).ToModel()

// CheckMessage says what is wrong with the operations on one message, in any order: nothing, or that no attempt may be
// given out twice, or that the message cannot have done this.
func CheckMessage(operations []porcupine.Operation) error {
	var attempts []uint32
	for _, o := range operations {
		if in, ok := o.Input.(MessageInput); ok && in.Kind == Deliver {
			attempts = append(attempts, in.Attempt)
		}
	}
	slices.Sort(attempts)
	before := make(map[uint32]uint32, len(attempts))
	last := uint32(0)
	for _, attempt := range attempts {
		if attempt == last {
			return fmt.Errorf("attempt %d came twice:%s", last, List(operations))
		}
		before[attempt], last = last, attempt
	}
	for i, o := range operations {
		if in, ok := o.Input.(MessageInput); ok && in.Kind == Deliver {
			in.Before = before[in.Attempt]
			operations[i].Input = in
		}
	}
	if porcupine.CheckOperationsTimeout(MessageModel, operations, time.Hour) != porcupine.Ok {
		return fmt.Errorf("it cannot have done this:%s", List(operations))
	}
	return nil
}

// PipeInput is what somebody does with a pipe.
type PipeInput struct {
	Kind    string
	Attempt uint32
}

type pipeState struct {
	replies uint64
	by      uint32 // the attempt that replied last
	reason  client.Reason
}

// PipeModel says that replies are numbered without a gap, the first end counts, and everybody is told the truth about it.
var PipeModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{pipeState{}} },
	Step: func(state, input, out any) []any {
		s, in, o := state.(pipeState), input.(PipeInput), out.(Output) //nolint:errcheck // they are what was put in
		if o.Refused {
			return []any{s}
		}
		if o.Unknown {
			return []any{s, s.after(in)}
		}
		switch {
		case in.Kind == End:
			if s.reason != o.Reason || s.replies != o.Last {
				return nil
			}
			return []any{s}
		case o.Status == client.ReplyEnded:
			if s.reason != o.Reason {
				return nil
			}
			return []any{s}
		case o.Status == client.ReplyUnknown:
			if s.reason == "" {
				return nil
			}
			return []any{s}
		case o.Status != 0 && (s.reason != "" || o.Last != 0 && o.Last != s.replies+1):
			return nil
		}
		return []any{s.after(in)}
	},
	DescribeOperation: describe,
}).ToModel()

// after is the state after an operation that was carried out.
func (s pipeState) after(in PipeInput) pipeState {
	if s.reason != "" {
		return s
	}
	switch in.Kind {
	case More, Last:
		s.replies++
		s.by = in.Attempt
		if in.Kind == Last {
			s.reason = client.EndOK
		}
	case Fail:
		s.reason = client.ErrFailed
	case Cancel:
		s.reason = client.ErrCancelled
	case Expire:
		s.reason = client.ErrExpired
	case Reject:
		s.reason = client.ErrRejected
	case Ack:
		s.reason = client.ErrBroken
		if s.by == in.Attempt {
			s.reason = client.EndOK
		}
	}
	return s
}

// describe prints an operation.
func describe(input, out any) string { return fmt.Sprintf("%+v: %+v", input, out) }

// List prints operations, one to a line.
func List(operations []porcupine.Operation) string {
	var b strings.Builder
	for _, o := range operations {
		b.WriteString("\n\t" + describe(o.Input, o.Output))
	}
	return b.String()
}
