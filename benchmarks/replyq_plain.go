package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// replyq's plain face, as generated stubs of any language use it: a Call stream per request, a Consume stream per
// connection of the worker, a Reply per answer. Each request is three RPCs, two of them with a stream of their own.

func plainWorker(j *job) (*part, error) {
	conns, closeConns, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	w := &plainWork{}
	ctx, cancel := context.WithCancel(context.Background())
	closeAll := func() {
		cancel()
		closeConns()
		w.wg.Wait()
	}
	for _, c := range conns {
		stub := queuepb.NewQueueServiceClient(c)
		stream, err := stub.Consume(ctx, &queuepb.ConsumeRequest{
			Queues: []string{replyqQueue}, MaxInFlight: uint32(max(256, j.Shape.InFlight)), //nolint:gosec // small
		})
		if err == nil {
			_, err = stream.Recv() // Started
		}
		if err != nil {
			closeAll()
			return nil, err
		}
		w.wg.Go(func() { w.consume(ctx, stub, stream) })
	}
	return &part{handled: &w.handled, close: closeAll}, nil
}

// A plainWork is the worker of all connections.
type plainWork struct {
	handled atomic.Int64
	wg      sync.WaitGroup
}

// consume answers each delivery in a goroutine of its own, since a Reply has to be awaited.
func (w *plainWork) consume(
	ctx context.Context, stub queuepb.QueueServiceClient, stream grpc.ServerStreamingClient[queuepb.ConsumeResponse],
) {
	for {
		event, err := stream.Recv()
		if err != nil {
			if ctx.Err() == nil {
				fatal(fmt.Errorf("the worker's stream ended: %w", err))
			}
			return
		}
		if d := event.GetDelivery(); d != nil {
			w.wg.Go(func() { w.reply(ctx, stub, d) })
		}
	}
}

func (w *plainWork) reply(ctx context.Context, stub queuepb.QueueServiceClient, d *queuepb.Delivery) {
	w.handled.Add(1) // before the caller can know of it
	answer, err := appendAnswer(nil, d.GetMessage().GetPayload())
	if err == nil {
		_, err = stub.Reply(ctx, &queuepb.ReplyRequest{
			Handle: d.GetMessage().GetReplyTo(), Body: &queuepb.ReplyRequest_Payload{Payload: answer},
			Lease: d.GetLease(), Ack: true,
		})
	}
	if err != nil && ctx.Err() == nil {
		fatal(fmt.Errorf("a reply was refused: %w", err))
	}
}

func plainCaller(j *job) (*part, error) {
	conns, closeAll, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	stubs := make([]queuepb.QueueServiceClient, len(conns))
	for i, c := range conns {
		stubs[i] = queuepb.NewQueueServiceClient(c)
	}
	return &part{close: closeAll, run: func(l *load) error {
		return l.calls(func(ctx context.Context, s *slot, request []byte) ([]byte, error) {
			return callPlainly(ctx, stubs[s.number%len(stubs)], request)
		})
	}}, nil
}

// callPlainly calls and awaits the one reply and the end.
func callPlainly(ctx context.Context, stub queuepb.QueueServiceClient, request []byte) ([]byte, error) {
	stream, err := stub.Call(ctx, &queuepb.CallRequest{
		Queue: replyqQueue, Message: &queuepb.Message{Payload: request},
	})
	if err != nil {
		return nil, err
	}
	var answer []byte
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if answer == nil {
				return nil, client.ErrNoReply
			}
			return answer, nil
		}
		if err != nil {
			return nil, err
		}
		if r := response.GetReply(); r != nil {
			if answer != nil {
				return nil, errors.New("a pipe had several replies where one was sent")
			}
			answer = r.GetPayload()
		}
		if e := response.GetEnd(); e != nil && e.GetReason() != queuepb.EndReason_END_REASON_OK {
			return nil, fmt.Errorf("the pipe ended: %v", e.GetReason())
		}
	}
}
