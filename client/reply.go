package client

import (
	"context"
	"fmt"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// ReplyStatus says what became of a reply.
type ReplyStatus int32

// What may become of a reply.
const (
	ReplyDelivered ReplyStatus = 1 // a waiter was attached, and the reply went its way
	ReplyBuffered  ReplyStatus = 2 // nobody is attached at the moment; it is kept
	ReplyEnded     ReplyStatus = 3 // the pipe had ended; it was dropped
	ReplyUnknown   ReplyStatus = 4 // the server does not know the pipe (any more); it was dropped
)

// String returns "delivered", "buffered", "ended" or "unknown".
func (s ReplyStatus) String() string {
	switch s {
	case ReplyDelivered:
		return "delivered"
	case ReplyBuffered:
		return "buffered"
	case ReplyEnded:
		return "ended"
	case ReplyUnknown:
		return "unknown"
	default:
		return fmt.Sprintf("status(%d)", int32(s))
	}
}

// ReplyOutcome is the truth about a reply. That the pipe is gone is an outcome, not an error.
type ReplyOutcome struct {
	// Status says what became of it.
	Status ReplyStatus
	// Reason, with ReplyEnded, is why the pipe had ended.
	Reason Reason
	// Sequence, with ReplyDelivered and ReplyBuffered, is its place in the pipe; 0 for an end without a reply.
	Sequence uint64
}

// Gone reports whether the reply reached nobody and never will: there is no use in sending more.
func (o ReplyOutcome) Gone() bool { return o.Status == ReplyEnded || o.Status == ReplyUnknown }

func replyOutcome(p *queuepb.ReplyResult) ReplyOutcome {
	o := ReplyOutcome{Status: ReplyStatus(p.GetOutcome()), Sequence: p.GetSequence()}
	if o.Status == ReplyEnded {
		o.Reason = endReason(p.GetEndReason())
	}
	return o
}

// ReplyOption says how a reply is sent.
type ReplyOption func(*replyRequest)

// replyRequest is a ReplyRequest before it is encoded. At most one of answer (if nil: no reply), err and splice is set.
type replyRequest struct {
	to      string
	answer  *Answer
	err     error
	splice  handles.Handle
	more    bool
	lease   string
	ack     bool
	replyID string
	prefix  []byte // to, more, lease and ack, encoded before; may be nil
}

// WithMore keeps the pipe open for further replies. Without it a reply ends the pipe.
func WithMore() ReplyOption { return func(r *replyRequest) { r.more = true } }

// WithReplyID gives the reply one effect however often it is sent with this id. At most 64 bytes.
func WithReplyID(id string) ReplyOption { return func(r *replyRequest) { r.replyID = id } }

// WithLease names the lease of the delivery that is being answered: a reply under a lease that was lost is refused with
// [ReasonLeaseStale]. The methods of [Delivery] name it by themselves.
func WithLease(lease handles.Handle) ReplyOption {
	return func(r *replyRequest) { r.lease = lease.Text() }
}

// WithAck acks the delivery that [WithLease] names, in the same step.
func WithAck() ReplyOption { return func(r *replyRequest) { r.ack = true } }

// Reply sends a reply through a send handle, and ends its pipe unless [WithMore] is given. It is for holders of a bare
// handle; to answer a delivery use [Delivery.Reply]. The outcome tells what became of it. A pipe that is full holds the
// reply for up to 10 s, and then the client repeats it until ctx ends.
func (c *Client) Reply(ctx context.Context, send handles.Handle, answer Answer, options ...ReplyOption) (ReplyOutcome, error) {
	return c.reply(ctx, c.pick(), &replyRequest{to: send.Text(), answer: &answer}, options)
}

// ReplyError ends a pipe with an error, which its waiters get with [ErrFailed]. An [*Error], or one with a gRPC status,
// keeps its code, reason, message, metadata and details; any other is UNKNOWN with its text.
func (c *Client) ReplyError(ctx context.Context, send handles.Handle, err error, options ...ReplyOption) (ReplyOutcome, error) {
	return c.reply(ctx, c.pick(), &replyRequest{to: send.Text(), err: err}, options)
}

// ReplyEnd ends a pipe without a further reply.
func (c *Client) ReplyEnd(ctx context.Context, send handles.Handle, options ...ReplyOption) (ReplyOutcome, error) {
	return c.reply(ctx, c.pick(), &replyRequest{to: send.Text()}, options)
}

// Splice lets a pipe continue with the replies of another one, by that one's receive handle, and end as it ends: an
// answer that is somebody else's future.
func (c *Client) Splice(ctx context.Context, send, receive handles.Handle, options ...ReplyOption) (ReplyOutcome, error) {
	return c.reply(ctx, c.pick(), &replyRequest{to: send.Text(), splice: receive}, options)
}

func (c *Client) reply(ctx context.Context, l *link, r *replyRequest, options []ReplyOption) (ReplyOutcome, error) {
	for _, option := range options {
		option(r)
	}
	r.answer = c.answerUnder(ctx, r.answer)
	u := c.pools.unary(opReply)
	u.operation.body = appendReply(u.operation.body, fieldOf(opReply), r)
	u.repeatable = r.replyID != ""
	u.leased = r.lease != ""
	var response queuepb.ReplyResponse
	if err := u.do(ctx, l, &response); err != nil {
		return ReplyOutcome{}, fmt.Errorf("reply: %w", err)
	}
	return replyOutcome(response.GetResult()), nil
}
