package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// Settle implements the RPC.
func (s *service) Settle(ctx context.Context, req *queuepb.SettleRequest) (*queuepb.SettleResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_Settle{Settle: req})
	return res.GetSettle(), err
}

func (c *caller) settle(req *queuepb.SettleRequest) (operation, *broker.Error) {
	op := operation{kind: kindSettle}
	lease, err := c.lease(req.Lease, "lease")
	if err != nil {
		return op, err
	}
	action, err := settleAction(req.Action)
	if err != nil {
		return op, err
	}
	delay, err := duration(req.Delay, "delay")
	if err != nil {
		return op, err
	}
	if delay < 0 || delay > maxDelay {
		return op, refuse(broker.ReasonDelayInvalid, "delay", "use 0 to 365 days")
	}
	if delay > 0 && action != broker.Retry {
		return op, refuse(broker.ReasonDelayInvalid, "delay", "only RETRY holds a message back: leave it unset")
	}
	if err := checkText(req.Reason, maxReason, reasonSettleTooLarge, "reason"); err != nil {
		return op, err
	}
	if req.Delay != nil && delay == 0 {
		delay = broker.NoDelay
	}
	settle := c.newSettle()
	settle.Lease, settle.Action, settle.Delay = lease, action, delay
	settle.Reason, settle.KeepHandles = strings.Clone(req.Reason), req.KeepHandles
	op.request = settle
	if len(req.Replies) > 0 || len(req.Messages) > 0 {
		op.fix, err = c.settleItems(settle, req)
	}
	return op, err
}

func settleAction(a queuepb.SettleAction) (broker.SettleAction, *broker.Error) {
	switch a {
	case queuepb.SettleAction_SETTLE_ACTION_UNSPECIFIED:
		return broker.Ack, nil
	case queuepb.SettleAction_SETTLE_ACTION_ACK, queuepb.SettleAction_SETTLE_ACTION_RETRY,
		queuepb.SettleAction_SETTLE_ACTION_REJECT, queuepb.SettleAction_SETTLE_ACTION_RELEASE:
		return broker.SettleAction(a), nil
	}
	return 0, unknownEnum("action")
}

// settleItems converts what a Settle carries. The broker does not see replies whose pipes cannot be there any more; fix
// puts their outcomes in their places.
func (c *caller) settleItems(out *broker.Settle, req *queuepb.SettleRequest) (fix func(any) any, _ *broker.Error) {
	if len(req.Replies) > maxSettleItems {
		return nil, refuse(reasonSettleTooLarge, "replies", "send at most 256")
	}
	if len(req.Messages) > maxSettleItems {
		return nil, refuse(reasonSettleTooLarge, "messages", "send at most 256")
	}
	if size := req.SizeVT(); size > c.srv.limits.frame {
		return nil, refuse(reasonSettleTooLarge, "", fmt.Sprintf(
			"%d bytes, the limit is %d: send some of it by Reply and Enqueue first", size, c.srv.limits.frame))
	}
	var lost []*broker.ReplyResult // by place; nil where the broker answers
	for i, r := range req.Replies {
		reply, gone, err := c.reply(r, true)
		if err != nil {
			return nil, under(fmt.Sprintf("replies[%d]", i), err)
		}
		if gone == nil {
			out.Replies = append(out.Replies, reply)
			continue
		}
		if lost == nil {
			lost = make([]*broker.ReplyResult, len(req.Replies))
		}
		lost[i] = gone
	}
	for i, m := range req.Messages {
		enqueue, err := c.settleMessage(m)
		if err != nil {
			return nil, under(fmt.Sprintf("messages[%d]", i), err)
		}
		out.Messages = append(out.Messages, enqueue)
	}
	if lost == nil {
		return nil, nil
	}
	return func(body any) any { return mergeReplies(body, lost) }, nil
}

func (c *caller) settleMessage(m *queuepb.EnqueueRequest) (*broker.Enqueue, *broker.Error) {
	switch {
	case m.Pipe != nil:
		return nil, refuse(reasonPipeOptionsInvalid, "pipe",
			"a Settle opens no pipes: use OpenPipe first, and set message.reply_to")
	case m.IdempotencyKey != "":
		return nil, refuse(reasonIdempotencyKeyInvalid, "idempotency_key", "the lease makes a Settle repeatable: leave it unset")
	case m.RequireConsumer:
		return nil, refuse(reasonRequireConsumerInvalid, "require_consumer",
			"a Settle is not refused for want of consumers: leave it unset")
	}
	out, err := c.enqueue(m, true)
	if err != nil {
		return nil, err
	}
	return &out.Enqueue, nil
}

// mergeReplies puts outcomes that the server knew into the broker's answer, which is shared and so copied.
func mergeReplies(body any, lost []*broker.ReplyResult) any {
	settled, ok := body.(*broker.Settled)
	if !ok {
		return body
	}
	merged := *settled
	merged.Replies = make([]broker.ReplyResult, 0, len(lost))
	rest := settled.Replies
	for _, known := range lost {
		switch {
		case known != nil:
			merged.Replies = append(merged.Replies, *known)
		case len(rest) > 0:
			merged.Replies = append(merged.Replies, rest[0])
			rest = rest[1:]
		}
	}
	return &merged
}

// ExtendLeases implements the RPC.
func (s *service) ExtendLeases(
	ctx context.Context, req *queuepb.ExtendLeasesRequest,
) (*queuepb.ExtendLeasesResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_ExtendLeases{ExtendLeases: req})
	return res.GetExtendLeases(), err
}

func (c *caller) extendLeases(req *queuepb.ExtendLeasesRequest) (operation, *broker.Error) {
	op := operation{kind: kindExtendLeases}
	if n := len(req.Leases); n == 0 || n > maxLeases {
		return op, refuse(reasonLeasesInvalid, "leases", fmt.Sprintf("%d leases: name 1 to %d", n, maxLeases))
	}
	time, err := leaseTime(req.LeaseTime, "lease_time")
	if err != nil {
		return op, err
	}
	extend := &broker.ExtendLeases{LeaseTime: time}
	results := make([]broker.ExtendedLease, len(req.Leases))
	bad := 0
	for i, l := range req.Leases {
		lease, err := c.lease(l, "")
		if err != nil {
			err.Field = leaseField(i)
			results[i].Err = err
			bad++
			continue
		}
		extend.Leases = append(extend.Leases, lease)
	}
	if bad == len(results) {
		op.answer = &broker.Extended{Leases: results}
		return op, nil
	}
	op.request = extend
	op.fix = func(body any) any { return mergeLeases(body, results) }
	return op, nil
}

// mergeLeases puts the broker's results into the places that have no error yet. Whoever has found an error, its field is
// the lease's place: by anything else, a lease that is another's could be told from one that never was.
func mergeLeases(body any, results []broker.ExtendedLease) any {
	extended, ok := body.(*broker.Extended)
	if !ok {
		return body
	}
	rest := extended.Leases
	for i := range results {
		if results[i].Err == nil && len(rest) > 0 {
			results[i], rest = rest[0], rest[1:]
			if e := results[i].Err; e != nil {
				moved := *e
				moved.Field = leaseField(i)
				results[i].Err = &moved
			}
		}
	}
	return &broker.Extended{Leases: results}
}

func leaseField(i int) string { return fmt.Sprintf("leases[%d]", i) }
