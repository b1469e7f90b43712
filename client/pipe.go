package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// Pipe is a pipe that was opened by itself, with both its handles. Put Send into messages as their ReplyTo, or give it
// to whoever shall reply; keep Receive, or pass it on: it is the future.
type Pipe struct {
	// Send is the end to reply through.
	Send handles.Handle
	// Receive is the end to await.
	Receive handles.Handle
	// Deadline is when the pipe expires.
	Deadline time.Time
}

// OpenPipe opens a pipe. It is never abandoned: it ends by a reply, by [Client.Cancel], or at its deadline, by default
// after 1 h.
func (c *Client) OpenPipe(ctx context.Context, options PipeOptions) (Pipe, error) {
	var response queuepb.OpenPipeResponse
	request := &queuepb.OpenPipeRequest{Pipe: options.toWire()}
	if err := c.unary(ctx, c.pick(), opOpenPipe, request, &response); err != nil {
		return Pipe{}, fmt.Errorf("open pipe: %w", err)
	}
	send, err := handles.Parse(response.GetSendHandle().GetToken())
	if err != nil {
		return Pipe{}, fmt.Errorf("open pipe: send handle: %w", err)
	}
	receive, err := handles.Parse(response.GetReceiveHandle().GetToken())
	if err != nil {
		return Pipe{}, fmt.Errorf("open pipe: receive handle: %w", err)
	}
	return Pipe{Send: send, Receive: receive, Deadline: response.GetDeadline().AsTime()}, nil
}

func (p *PipeOptions) toWire() *queuepb.PipeOptions {
	w := &queuepb.PipeOptions{
		Timeout: wireDuration(p.Timeout), DisconnectGrace: wireDuration(p.DisconnectGrace), Retain: wireDuration(p.Retain),
		CapacityReplies: p.CapacityReplies, CapacityBytes: p.CapacityBytes,
	}
	if !p.Parent.IsZero() {
		w.Parent = wireHandle(p.Parent)
	}
	if p.KeepIfAbandoned {
		w.IfAbandoned = queuepb.IfAbandoned_IF_ABANDONED_KEEP
	}
	return w
}

// Cancel ends a pipe with [ErrCancelled] for all its readers, by its receive handle; why, at most 1 KiB, is told to
// them. A queued message that waits with it is withdrawn, and a consumer that works on one is told. It reports whether
// this ended the pipe, and why the pipe ended if it had before.
func (c *Client) Cancel(ctx context.Context, receive handles.Handle, why string) (cancelled bool, reason Reason, err error) {
	var response queuepb.CancelResponse
	request := &queuepb.CancelRequest{Handle: wireHandle(receive), Message: cut(why, maxCancelMessage)}
	if err := c.unary(ctx, c.pick(), opCancel, request, &response); err != nil {
		return false, "", fmt.Errorf("cancel: %w", err)
	}
	return response.GetCancelled(), endReason(response.GetReason()), nil
}

// Describe tells what a pipe waits for, by either of its handles, or the state of a delivery, by its lease. The answer
// is the wire's own message, see api/queue.proto: it is for people to look at.
func (c *Client) Describe(ctx context.Context, handle handles.Handle) (*queuepb.DescribeResponse, error) {
	response := new(queuepb.DescribeResponse)
	request := &queuepb.DescribeRequest{Handle: wireHandle(handle)}
	if err := c.unary(ctx, c.pick(), opDescribe, request, response); err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	return response, nil
}

// unary makes an operation of one result through generated messages.
func (c *Client) unary(
	ctx context.Context, l *link, kind opKind, request vtMessage, response interface{ UnmarshalVT([]byte) error },
) error {
	u := c.pools.unary(kind)
	u.operation.body = appendRequest(u.operation.body, kind, request)
	return u.do(ctx, l, response)
}

func wireHandle(h handles.Handle) *queuepb.Handle { return &queuepb.Handle{Token: h.Text()} }

// wireDuration leaves 0 unset.
func wireDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
