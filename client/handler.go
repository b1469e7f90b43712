package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
)

// Handler works on one delivery for [Client.Work]. What it returns settles the delivery, unless it did that by itself:
//
//   - An answer is sent as the last reply and acks the delivery, in one step. Before it,
//     [Delivery.ReplyStream] and [Delivery.ReplyMore] stream.
//   - No answer and no error acks the delivery. A waiter that had no reply gets [ErrBroken].
//   - An error made by [Retry] or [Reject] retries or rejects.
//   - Any other error ends the waiter's pipe with [ErrFailed] and acks the delivery. An [*Error], or one with a gRPC
//     status, keeps its code, reason, message, metadata and details. When the message has no reply_to, nobody could be
//     told, and the message is retried.
//   - A panic is logged, without its value, and the message is retried.
//
// When ctx has ended because nobody waits any more, the delivery is acked whatever the handler returns; when the lease
// was lost, nothing is sent; when a stopped Work has run out of patience, an error releases it. context.Cause tells
// which it was: [ErrWaiterGone], [ErrLeaseLost] or [ErrDraining]. ctx has the delivery's deadline.
type Handler func(ctx context.Context, d *Delivery) (*Answer, error)

// Func makes a handler of a function on values: the payload is decoded as [Decode] does, the result encoded as
// [NewAnswer] does. A payload that cannot be decoded is answered with INVALID_ARGUMENT and PAYLOAD_INVALID, or rejected
// if nobody waits.
func Func[In, Out any](f func(ctx context.Context, in In) (Out, error)) Handler {
	return func(ctx context.Context, d *Delivery) (*Answer, error) {
		in, err := Decode[In](d.Payload)
		if err != nil {
			err = &Error{Code: codes.InvalidArgument, Reason: ReasonPayloadInvalid, Message: err.Error()}
			if !d.HasReplyTo() {
				err = Reject(err)
			}
			return nil, err
		}
		out, err := f(ctx, in)
		if err != nil {
			return nil, err
		}
		return NewAnswer(out)
	}
}

// ReasonPayloadInvalid is what [Func] answers to a payload that it cannot decode.
const ReasonPayloadInvalid Reason = "PAYLOAD_INVALID"

// Retry makes an error that has a handler's delivery retried after a delay; 0 is the queue's backoff. The error's text
// is kept in the message's history.
func Retry(err error, delay time.Duration) error { return &verdict{SettleRetry, delay, err} }

// Reject makes an error that has a handler's delivery rejected: the message becomes a dead message, with the error's
// text in its history.
func Reject(err error) error { return &verdict{SettleReject, 0, err} }

// verdict is an error that says how to settle.
type verdict struct {
	action SettleAction
	delay  time.Duration
	err    error
}

func (v *verdict) Error() string {
	if v.err == nil {
		return "no reason given"
	}
	return v.err.Error()
}

func (v *verdict) Unwrap() error { return v.err }

// panicError stands for a panic of a handler. It tells the type of the value only: the value may hold a payload.
type panicError struct{ value any }

func (p *panicError) Error() string { return fmt.Sprintf("handler panicked with a %T", p.value) }

// judgement is how a delivery is settled: by a reply, by a settlement, or, if it is neither, not at all.
type judgement struct {
	replies bool
	answer  *Answer
	err     error
	settles bool
	settle  Settlement
}

// settled is the judgement of a delivery that has no answer.
func settled(action SettleAction) judgement {
	return judgement{settles: true, settle: Settlement{Action: action}}
}

func (j *judgement) nothing() bool { return !j.replies && !j.settles }

// judge decides how a delivery is settled after its handler returned.
func judge(d *Delivery, answer *Answer, err error) judgement {
	cause := d.ended()
	switch {
	case err != nil || cause != nil:
		return judgeFailure(d, cause, answer, err)
	case answer == nil || d.replyTo == "":
		return settled(SettleAck)
	default:
		return judgement{replies: true, answer: answer}
	}
}

func judgeFailure(d *Delivery, cause error, answer *Answer, err error) judgement {
	var v *verdict
	var p *panicError
	switch {
	case errors.Is(cause, ErrLeaseLost):
		return judgement{}
	case errors.Is(cause, ErrWaiterGone), err == nil && (answer == nil || d.replyTo == ""):
		return settled(SettleAck)
	case err == nil:
		return judgement{replies: true, answer: answer}
	case errors.As(err, &v):
		return judgement{settles: true, settle: Settlement{Action: v.action, Delay: v.delay, Reason: v.Error()}}
	case errors.As(err, &p):
		return judgement{settles: true, settle: Settlement{Action: SettleRetry, Reason: p.Error()}}
	case errors.Is(cause, ErrDraining):
		return settled(SettleRelease)
	case d.replyTo == "":
		return judgement{settles: true, settle: Settlement{Action: SettleRetry, Reason: err.Error()}}
	default:
		return judgement{replies: true, err: err}
	}
}
