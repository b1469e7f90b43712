package integration_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// A tenantRow is all that a method can be told of another tenant's.
type tenantRow struct {
	method   string
	requests []func(p *spy, b *belongings) proto.Message
}

// spy is what mallory has, of the tenant other.
func (s *target) spy(t *testing.T) *spy {
	t.Helper()
	p := &spy{target: s, t: t, stub: queuepb.NewQueueServiceClient(s.conn)}
	for _, queue := range []string{"q", "settled", "nothing"} { // so that no receipt tells that it was made just now
		if _, err := queuepb.NewAdminServiceClient(s.conn).CreateQueue(s.foreign, &queuepb.CreateQueueRequest{Name: queue}); err != nil {
			t.Fatal(err)
		}
	}
	next := p.deliveries("spy")
	p.lease = func() *queuepb.Handle {
		if _, err := p.stub.Enqueue(s.foreign, &queuepb.EnqueueRequest{Queue: "spy"}); err != nil {
			t.Fatal(err)
		}
		return next().Lease
	}
	var err error
	if p.own, err = p.stub.OpenPipe(s.foreign, &queuepb.OpenPipeRequest{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// deliveries consumes a queue.
func (p *spy) deliveries(queue string) func() *queuepb.Delivery {
	stream, err := p.stub.Consume(p.foreign, &queuepb.ConsumeRequest{Queues: []string{queue}, MaxInFlight: 1000})
	if err != nil {
		p.t.Fatal(err)
	}
	return func() *queuepb.Delivery {
		for {
			res, err := stream.Recv()
			if err != nil {
				p.t.Fatal(err)
			}
			if d := res.GetDelivery(); d != nil {
				return d
			}
		}
	}
}

// messages are messages that carry another tenant's handles.
func messages(b *belongings) []*queuepb.Message {
	return []*queuepb.Message{
		{ReplyTo: b.send},
		{Handles: map[string]*queuepb.Handle{"a": b.send}},
		{Handles: map[string]*queuepb.Handle{"a": b.receive}},
		{Payload: []byte(b.send.Token + " " + b.receive.Token)},
		{Headers: map[string]string{"a": b.send.Token}},
	}
}

// enqueues are the ways in which a message can name what is another tenant's.
func enqueues() (all []func(p *spy, b *belongings) *queuepb.EnqueueRequest) {
	for i := range messages(&belongings{send: &queuepb.Handle{}, receive: &queuepb.Handle{}}) {
		all = append(all, func(_ *spy, b *belongings) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Queue: "q", Message: messages(b)[i]}
		})
	}
	return append(all,
		func(_ *spy, b *belongings) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Queue: "q", Pipe: &queuepb.PipeOptions{Parent: b.send}}
		},
		func(_ *spy, b *belongings) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Queue: "q", Pipe: &queuepb.PipeOptions{Parent: b.receive}}
		},
		func(_ *spy, b *belongings) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Queue: b.name, IdempotencyKey: b.name, Message: &queuepb.Message{Payload: []byte("x")}}
		},
		func(_ *spy, b *belongings) *queuepb.EnqueueRequest {
			return &queuepb.EnqueueRequest{Queue: b.name, RequireConsumer: true}
		},
	)
}

// tenantRows has a row for each method of the contract.
func tenantRows() []tenantRow {
	var enqueue, batch, call []func(p *spy, b *belongings) proto.Message
	for _, of := range enqueues() {
		enqueue = append(enqueue, func(p *spy, b *belongings) proto.Message { return of(p, b) })
		batch = append(batch, func(p *spy, b *belongings) proto.Message {
			return &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{of(p, b)}}
		})
		call = append(call, func(p *spy, b *belongings) proto.Message {
			e := of(p, b)
			if e.IdempotencyKey != "" {
				e.IdempotencyKey = "call " + e.IdempotencyKey
			}
			return &queuepb.CallRequest{
				Queue: e.Queue, Message: e.Message, Pipe: e.Pipe, IdempotencyKey: e.IdempotencyKey, RequireConsumer: e.RequireConsumer,
			}
		})
	}
	type requests = []func(p *spy, b *belongings) proto.Message
	consume := func(change func(r *queuepb.ConsumeRequest, b *belongings)) func(*spy, *belongings) proto.Message {
		return func(_ *spy, b *belongings) proto.Message {
			r := &queuepb.ConsumeRequest{Queues: []string{"nothing"}, Wait: durationpb.New(1)}
			change(r, b)
			return r
		}
	}
	return append([]tenantRow{
		{queuepb.QueueService_Enqueue_FullMethodName, enqueue},
		{queuepb.QueueService_EnqueueBatch_FullMethodName, batch},
		{queuepb.QueueService_Call_FullMethodName, call},
		{queuepb.QueueService_Consume_FullMethodName, requests{
			consume(func(r *queuepb.ConsumeRequest, b *belongings) { r.Queues = []string{b.name} }),
			consume(func(r *queuepb.ConsumeRequest, b *belongings) { r.ConsumerId = b.name }),
			consume(func(r *queuepb.ConsumeRequest, b *belongings) { r.HeldLeases = []*queuepb.Handle{b.lease} }),
		}},
		{queuepb.QueueService_Reply_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.ReplyRequest{Handle: b.send} },
			func(p *spy, b *belongings) proto.Message {
				return &queuepb.ReplyRequest{Handle: p.own.SendHandle, Lease: b.lease, More: true}
			},
			func(p *spy, b *belongings) proto.Message {
				return &queuepb.ReplyRequest{Handle: p.own.SendHandle, Lease: b.lease, Ack: true, More: true}
			},
			func(p *spy, b *belongings) proto.Message {
				return &queuepb.ReplyRequest{Handle: p.own.SendHandle, Body: &queuepb.ReplyRequest_Splice{Splice: b.receive}}
			},
			func(p *spy, b *belongings) proto.Message {
				return &queuepb.ReplyRequest{
					Handle: p.own.SendHandle, Body: &queuepb.ReplyRequest_Payload{}, Handles: map[string]*queuepb.Handle{"a": b.receive},
				}
			},
		}},
		{queuepb.QueueService_Settle_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.SettleRequest{Lease: b.lease} },
			func(p *spy, b *belongings) proto.Message {
				return &queuepb.SettleRequest{Lease: p.lease(), Replies: []*queuepb.ReplyRequest{{Handle: b.send}}}
			},
			func(p *spy, b *belongings) proto.Message {
				r := &queuepb.SettleRequest{Lease: p.lease()}
				for _, m := range messages(b) {
					r.Messages = append(r.Messages, &queuepb.EnqueueRequest{Queue: "settled", Message: m})
				}
				return r
			},
		}},
		{queuepb.QueueService_ExtendLeases_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{b.lease}}
			},
			func(p *spy, b *belongings) proto.Message {
				return &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{p.lease(), b.lease}}
			},
		}},
		{queuepb.QueueService_StopConsuming_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.StopConsumingRequest{ConsumerId: b.name} },
		}},
		{queuepb.QueueService_OpenPipe_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.OpenPipeRequest{Queue: b.name} },
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Parent: b.send}}
			},
		}},
		{queuepb.QueueService_Receive_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.ReceiveRequest{Handle: b.receive} },
		}},
		{queuepb.QueueService_Cancel_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.CancelRequest{Handle: b.receive} },
		}},
		{queuepb.QueueService_Describe_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.DescribeRequest{Handle: b.send} },
			func(_ *spy, b *belongings) proto.Message { return &queuepb.DescribeRequest{Handle: b.receive} },
			func(_ *spy, b *belongings) proto.Message { return &queuepb.DescribeRequest{Handle: b.lease} },
		}},
		{queuepb.QueueService_GetServerInfo_FullMethodName, nil},       // can name nothing
		{queuepb.AdminService_GetServerStatistics_FullMethodName, nil}, // likewise
		{queuepb.AdminService_GetCluster_FullMethodName, nil},          // likewise
		{queuepb.QueueService_Session_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1, SessionId: b.session}}
			},
		}},
	}, adminTenantRows()...)
}

func adminTenantRows() []tenantRow {
	type requests = []func(p *spy, b *belongings) proto.Message
	return []tenantRow{
		{queuepb.AdminService_CreateQueue_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.CreateQueueRequest{Name: b.name + "x"} },
		}},
		{queuepb.AdminService_GetQueue_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.GetQueueRequest{Name: b.name} },
		}},
		{queuepb.AdminService_ListQueues_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.ListQueuesRequest{Prefix: b.name} },
		}},
		{queuepb.AdminService_UpdateQueue_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.UpdateQueueRequest{Name: b.name, Config: &queuepb.QueueConfig{Paused: true}}
			},
		}},
		{queuepb.AdminService_PurgeQueue_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.PurgeQueueRequest{Name: b.name} },
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.PurgeQueueRequest{Name: b.name, State: queuepb.MessageState_MESSAGE_STATE_DEAD}
			},
		}},
		{queuepb.AdminService_ListMessages_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.ListMessagesRequest{Queue: b.name} },
		}},
		{queuepb.AdminService_DeleteMessages_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.DeleteMessagesRequest{Queue: b.name, MessageIds: []string{b.message, b.dead}}
			},
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.DeleteMessagesRequest{Queue: "spy", MessageIds: []string{b.message, b.dead}}
			},
		}},
		{queuepb.AdminService_RedriveMessages_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.RedriveMessagesRequest{Queue: b.name} },
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.RedriveMessagesRequest{Queue: "spy", MessageIds: []string{b.dead}, TargetQueue: b.name}
			},
		}},
		{queuepb.AdminService_EndPipe_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: b.send}}
			},
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: b.receive}}
			},
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_MessageId{MessageId: b.message}}
			},
		}},
		{queuepb.AdminService_WatchQueues_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message { return &queuepb.WatchQueuesRequest{Prefix: b.name} },
		}},
		// Last, since it takes away what the spy has by then under the name.
		{queuepb.AdminService_DeleteQueue_FullMethodName, requests{
			func(_ *spy, b *belongings) proto.Message {
				return &queuepb.DeleteQueueRequest{Name: b.name, Force: true}
			},
		}},
	}
}
