package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// SettleAction says how a delivery ends.
type SettleAction int32

// How a delivery may end.
const (
	SettleAck     SettleAction = 1 // done: the message is gone for good. The default
	SettleRetry   SettleAction = 2 // failed: deliver it again after a delay; counts as a failure
	SettleReject  SettleAction = 3 // cannot be done: it becomes a dead message now
	SettleRelease SettleAction = 4 // not started: give it back as it was; counts no failure
)

// maxSettleReason is how long the server lets the reason of a Settle be.
const maxSettleReason = 1024

// Settlement ends a delivery together with replies and new messages, in one step that happens as a whole or not at all.
type Settlement struct {
	// Action is how the delivery ends. Default SettleAck.
	Action SettleAction
	// Delay, with SettleRetry, is how long to hold the message back. Default: the queue's backoff, else none.
	Delay time.Duration
	// Reason, with SettleRetry and SettleReject, is why; it is kept in the message's history. At most 1 KiB.
	Reason string
	// Replies are sent in the same step, at most 256.
	Replies []SettleReply
	// Messages are enqueued in the same step, at most 256. Forwarding is a message with the delivery's ReplyTo, such as
	// [Delivery.Message]. Options for idempotency keys, required consumers and pipes are refused here.
	Messages []Item
	// KeepHandles says that copies of the delivery's handles are kept and will be used later. Without it, acking the
	// last carrier of a send handle without a reply breaks its pipe.
	KeepHandles bool
}

// SettleReply is a reply as part of a settlement. At most one of Answer, Err and Splice is set; none is an end without a
// reply.
type SettleReply struct {
	// To is the send handle. Default: the delivery's reply_to.
	To handles.Handle
	// Answer is the reply's content.
	Answer *Answer
	// Err ends the pipe with an error.
	Err error
	// Splice lets the pipe continue with the one of this receive handle.
	Splice handles.Handle
	// More keeps the pipe open.
	More bool
}

// SettleResult is what became of a settlement.
type SettleResult struct {
	// Already says that the delivery had been settled before in the same way; nothing was done now.
	Already bool
	// Dead says that the message became a dead message.
	Dead bool
	// Replies are the outcomes of the replies, in their order.
	Replies []ReplyOutcome
	// Receipts are those of the messages, in their order.
	Receipts []Receipt
}

// Ack settles the delivery: the message is done. If somebody waits and had no reply, its pipe ends with [ErrBroken].
func (d *Delivery) Ack(ctx context.Context) error {
	_, err := d.Settle(ctx, Settlement{Action: SettleAck})
	return err
}

// Retry settles the delivery as failed: the message is delivered again after delay (0: the queue's backoff), or becomes
// a dead message when it has failed too often. reason is kept in its history.
func (d *Delivery) Retry(ctx context.Context, delay time.Duration, reason string) error {
	_, err := d.Settle(ctx, Settlement{Action: SettleRetry, Delay: delay, Reason: reason})
	return err
}

// Reject settles the delivery as impossible: the message becomes a dead message now. reason is kept in its history.
func (d *Delivery) Reject(ctx context.Context, reason string) error {
	_, err := d.Settle(ctx, Settlement{Action: SettleReject, Reason: reason})
	return err
}

// Release gives the delivery back as not started; it counts as no failure.
func (d *Delivery) Release(ctx context.Context) error {
	_, err := d.Settle(ctx, Settlement{Action: SettleRelease})
	return err
}

// Extend makes the lease last for so long from now; 0 is the consumer's lease time. The error is [ErrWaiterGone] if
// nobody waits any more (the lease is extended all the same), [ReasonLeaseStale] if the lease was lost.
func (d *Delivery) Extend(ctx context.Context, leaseTime time.Duration) error {
	var response queuepb.ExtendLeasesResponse
	u := d.consumer.client.pools.unary(opExtend)
	u.leased = true
	u.operation.body = appendRequest(u.operation.body, opExtend, &queuepb.ExtendLeasesRequest{
		Leases: []*queuepb.Handle{{Token: d.lease}}, LeaseTime: wireDuration(leaseTime)})
	if err := u.do(ctx, d.consumer.link, &response); err != nil {
		return d.explain("extend", err)
	}
	if len(response.GetResults()) == 0 {
		return d.explain("extend", errMalformed)
	}
	r := response.GetResults()[0]
	if r.GetError() != nil {
		return d.explain("extend", fromWire(r.GetError()))
	}
	d.extendedTo(wireTime(r.GetExpiresAt()))
	if r.GetWaiterGone() {
		d.end(ErrWaiterGone)
		return ErrWaiterGone
	}
	return nil
}

// Reply sends the last reply and acks the delivery, in one step. The outcome tells whether it reached anybody; that it
// did not is no error, and the delivery is settled in any case.
func (d *Delivery) Reply(ctx context.Context, answer Answer) (ReplyOutcome, error) {
	return d.replyAndAck(ctx, &replyRequest{answer: &answer})
}

// ReplyError ends the pipe with an error, see [Client.ReplyError], and acks the delivery, in one step.
func (d *Delivery) ReplyError(ctx context.Context, err error) (ReplyOutcome, error) {
	return d.replyAndAck(ctx, &replyRequest{err: err})
}

// Splice lets the pipe continue with the one of a receive handle, and acks the delivery, in one step.
func (d *Delivery) Splice(ctx context.Context, receive handles.Handle) (ReplyOutcome, error) {
	return d.replyAndAck(ctx, &replyRequest{splice: receive})
}

// ReplyMore sends a reply, keeps the pipe and the delivery open, and waits for the outcome; for many replies one after the
// other see [Delivery.ReplyStream]. An outcome that is Gone means that nobody waits any
// more; the delivery's context has ended then.
func (d *Delivery) ReplyMore(ctx context.Context, answer Answer) (ReplyOutcome, error) {
	if d.replyTo == "" {
		return ReplyOutcome{Status: ReplyUnknown}, nil
	}
	r := &replyRequest{to: d.replyTo, lease: d.lease, answer: &answer, more: true}
	outcome, err := d.consumer.client.reply(ctx, d.consumer.link, r, nil)
	if err != nil {
		return outcome, d.explain("reply", err)
	}
	if outcome.Gone() {
		d.end(ErrWaiterGone)
	}
	return outcome, nil
}

func (d *Delivery) replyAndAck(ctx context.Context, r *replyRequest) (ReplyOutcome, error) {
	if d.replyTo == "" { // nobody asked: then only the ack is left
		return ReplyOutcome{Status: ReplyUnknown}, d.Ack(ctx)
	}
	if err := d.flushStream(); err != nil {
		return ReplyOutcome{}, err
	}
	if !d.settling.CompareAndSwap(false, true) {
		return ReplyOutcome{}, ErrSettled
	}
	r.to, r.lease, r.ack = d.replyTo, d.lease, true
	outcome, err := d.consumer.client.reply(ctx, d.consumer.link, r, nil)
	return outcome, d.settledWith("reply", err)
}

// Settle ends the delivery as the settlement says. A delivery that was settled is [ErrSettled]; one whose lease was lost
// [ReasonLeaseStale] or [ReasonLeaseUnknown]. After any other error it may be settled again.
func (d *Delivery) Settle(ctx context.Context, s Settlement) (SettleResult, error) {
	if err := d.flushStream(); err != nil && (s.Action == SettleAck || s.Action == 0) {
		return SettleResult{}, err
	}
	if !d.settling.CompareAndSwap(false, true) {
		return SettleResult{}, ErrSettled
	}
	c := d.consumer.client
	s.Messages, s.Replies = c.itemsUnder(ctx, s.Messages), c.repliesUnder(ctx, s.Replies)
	u := c.pools.unary(opSettle)
	u.leased = true
	u.operation.body = d.appendSettle(u.operation.body, &s)
	var response queuepb.SettleResponse
	err := d.settledWith("settle", u.do(ctx, d.consumer.link, &response))
	if err != nil {
		return SettleResult{}, err
	}
	return settleResult(&response)
}

func settleResult(response *queuepb.SettleResponse) (SettleResult, error) {
	result := SettleResult{Already: response.GetAlready(), Dead: response.GetDead()}
	for _, r := range response.GetReplies() {
		result.Replies = append(result.Replies, replyOutcome(r))
	}
	for _, r := range response.GetReceipts() {
		receipt, err := receiptFromWire(r)
		if err != nil {
			return result, err
		}
		result.Receipts = append(result.Receipts, receipt)
	}
	return result, nil
}

func (d *Delivery) appendSettle(b []byte, s *Settlement) []byte {
	return appendSettle(b, fieldOf(opSettle), d.lease, s, s.replyRequests(d.replyTo))
}

// replyRequests are the replies; those that say not where to go to replyTo.
func (s *Settlement) replyRequests(replyTo string) []replyRequest {
	replies := make([]replyRequest, len(s.Replies))
	for i, r := range s.Replies {
		replies[i] = replyRequest{to: r.To.Text(), answer: r.Answer, err: r.Err, splice: r.Splice, more: r.More}
		if r.To.IsZero() {
			replies[i].to = replyTo
		}
	}
	return replies
}

// settledWith keeps the books after an attempt to settle.
func (d *Delivery) settledWith(what string, err error) error {
	switch {
	case err == nil:
		d.consumer.forget(d)
		d.release()
		return nil
	case leaseIsLost(err):
		d.end(ErrLeaseLost)
		d.consumer.forget(d)
	default:
		d.settling.Store(false)
	}
	return d.explain(what, err)
}

func leaseIsLost(err error) bool {
	return errors.Is(err, ReasonLeaseStale) || errors.Is(err, ReasonLeaseUnknown) || errors.Is(err, ReasonLeaseNotYours)
}

// explain says of an error which delivery it was.
func (d *Delivery) explain(what string, err error) error {
	return fmt.Errorf("%s message %s of %q: %w", what, d.MessageID, d.Queue, err)
}
