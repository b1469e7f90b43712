package server

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// OpenPipe implements the RPC.
func (s *service) OpenPipe(ctx context.Context, req *queuepb.OpenPipeRequest) (*queuepb.OpenPipeResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_OpenPipe{OpenPipe: req})
	return res.GetOpenPipe(), err
}

func (c *caller) openPipe(req *queuepb.OpenPipeRequest) (operation, *broker.Error) {
	op := operation{kind: kindOpenPipe}
	options, err := c.pipeOptions(req.Pipe, 0)
	if err != nil {
		return op, err
	}
	if req.Queue != "" {
		if err := checkQueue(req.Queue, "queue"); err != nil {
			return op, err
		}
	}
	op.request = &broker.OpenPipe{Options: options, Queue: strings.Clone(req.Queue)}
	return op, nil
}

// pipeOptions converts the options of a pipe, with its parent.
func (c *caller) pipeOptions(o *queuepb.PipeOptions, timeout time.Duration) (broker.PipeOptions, *broker.Error) {
	out, err := c.srv.limits.pipeOptions(o, timeout)
	if err == nil && o.GetParent() != nil {
		out.Parent, err = c.pipeHandle(o.Parent, 0, "pipe.parent")
	}
	return out, err
}

// Receive implements the RPC.
func (s *service) Receive(
	req *queuepb.ReceiveRequest, stream grpc.ServerStreamingServer[queuepb.ReceiveResponse],
) error {
	c := s.caller(stream.Context())
	op, err := c.receive(req)
	if err != nil {
		return err
	}
	op.credit = 1
	return s.stream(stream.Context(), c, op, func(r *queuepb.Result) error { return stream.Send(r.GetReceive()) })
}

func (c *caller) receive(req *queuepb.ReceiveRequest) (operation, *broker.Error) {
	op := operation{kind: kindReceive}
	h, err := c.pipeHandle(req.Handle, handles.Receive, "handle")
	if err != nil {
		return op, err
	}
	op.request = &broker.Receive{Handle: h, FromSequence: req.FromSequence}
	return op, nil
}

// Cancel implements the RPC.
func (s *service) Cancel(ctx context.Context, req *queuepb.CancelRequest) (*queuepb.CancelResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_Cancel{Cancel: req})
	return res.GetCancel(), err
}

func (c *caller) cancel(req *queuepb.CancelRequest) (operation, *broker.Error) {
	op := operation{kind: kindCancel}
	h, err := c.pipeHandle(req.Handle, handles.Receive, "handle")
	if err != nil {
		return op, err
	}
	op.request = &broker.Cancel{Handle: h, Message: strings.Clone(trimText(req.Message, maxReason))}
	return op, nil
}
