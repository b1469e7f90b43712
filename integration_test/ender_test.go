package integration_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
)

// An ender brings about the end of the pipe of a call, as consumer or administrator of the call's queue.
type ender struct {
	t      *testing.T
	ctx    context.Context
	server *server
	stub   queuepb.QueueServiceClient
	admin  queuepb.AdminServiceClient
	queue  string
	stream grpc.ServerStreamingClient[queuepb.ConsumeResponse] // if it consumes
	leave  context.CancelFunc
}

func newEnder(t *testing.T, s *server, queue string, of ending) *ender {
	t.Helper()
	conn := s.watcher(t)
	e := &ender{
		t: t, server: s, queue: queue, stub: queuepb.NewQueueServiceClient(conn), admin: queuepb.NewAdminServiceClient(conn),
	}
	e.ctx, e.leave = context.WithCancel(t.Context())
	t.Cleanup(e.leave)
	if of.config != nil {
		_, err := e.admin.CreateQueue(e.ctx, &queuepb.CreateQueueRequest{Name: queue, Config: of.config})
		e.check("CreateQueue", err)
	}
	if of.call.GetRequireConsumer() {
		e.consume()
	}
	return e
}

// request is the call whose pipe shall end.
func (e *ender) request(of ending) *queuepb.CallRequest {
	call := &queuepb.CallRequest{}
	if of.call != nil {
		call = proto.CloneOf(of.call)
	}
	call.Queue, call.Message = e.queue, &queuepb.Message{Payload: []byte(canary)}
	return call
}

func (e *ender) check(what string, err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatalf("%s() = %v", what, err)
	}
}

func (e *ender) consume() {
	e.t.Helper()
	var err error
	e.stream, err = e.stub.Consume(e.ctx, &queuepb.ConsumeRequest{Queues: []string{e.queue}})
	e.check("Consume", err)
	started, err := e.stream.Recv()
	e.check("Consume", err)
	if started.GetStarted() == nil {
		e.t.Fatalf("Consume() = %v, want started", started)
	}
}

// take takes the call's message.
func (e *ender) take() *queuepb.Delivery {
	e.t.Helper()
	e.consume()
	res, err := e.stream.Recv()
	e.check("Consume", err)
	if res.GetDelivery() == nil {
		e.t.Fatalf("Consume() = %v, want a delivery", res)
	}
	return res.GetDelivery()
}

func (e *ender) reply(d *queuepb.Delivery, r *queuepb.ReplyRequest) {
	e.t.Helper()
	r.Handle, r.Lease = d.Message.ReplyTo, d.Lease
	_, err := e.stub.Reply(e.ctx, r)
	e.check("Reply", err)
}

func (e *ender) settle(d *queuepb.Delivery, action queuepb.SettleAction) {
	e.t.Helper()
	_, err := e.stub.Settle(e.ctx, &queuepb.SettleRequest{Lease: d.Lease, Action: action})
	e.check("Settle", err)
}

func (e *ender) enqueue() {
	e.t.Helper()
	_, err := e.stub.Enqueue(e.ctx, &queuepb.EnqueueRequest{Queue: e.queue})
	e.check("Enqueue", err)
}

func payload(text string) *queuepb.ReplyRequest_Payload {
	return &queuepb.ReplyRequest_Payload{Payload: []byte(text)}
}
