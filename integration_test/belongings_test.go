package integration_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// belongings are what a tenant has: all that a request can name.
type belongings struct {
	name                 string // of a queue, a consumer and a key
	dead, message        string // ids
	send, receive, lease *queuepb.Handle
	session              []byte
}

// Two names of one length, so that errors which quote them are of one length too.
const (
	theirName = "theirs.0"
	neverName = "nevers.0"
)

// hide makes answers comparable that quote a name.
func hide(answer string) string {
	return strings.NewReplacer(theirName, "NAME", neverName, "NAME").Replace(answer)
}

// A victim is the tenant default, with one of everything.
type victim struct {
	belongings

	stub      queuepb.QueueServiceClient
	consuming grpc.ServerStreamingClient[queuepb.ConsumeResponse]
	live      *rawSession
}

func (s *target) victim(t *testing.T) *victim {
	t.Helper()
	v := &victim{
		belongings: belongings{name: theirName, session: []byte(strings.Repeat("s", 32))},
		stub:       queuepb.NewQueueServiceClient(s.conn),
	}
	var err error
	v.consuming, err = v.stub.Consume(s.ctx, &queuepb.ConsumeRequest{
		Queues: []string{v.name}, ConsumerId: v.name, MaxInFlight: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{Queue: v.name}); err != nil {
		t.Fatal(err)
	}
	first := v.next(t)
	v.dead = first.MessageId
	if _, err := v.stub.Settle(s.ctx, &queuepb.SettleRequest{
		Lease: first.Lease, Action: queuepb.SettleAction_SETTLE_ACTION_REJECT,
	}); err != nil {
		t.Fatal(err)
	}
	res, err := v.stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{Queue: v.name, Pipe: &queuepb.PipeOptions{}, IdempotencyKey: v.name})
	if err != nil {
		t.Fatal(err)
	}
	second := v.next(t)
	v.message, v.lease, v.send, v.receive = second.MessageId, second.Lease, second.Message.ReplyTo, res.Receipt.ReceiveHandle
	v.live = s.rawSession(s.ctx, t, &queuepb.Hello{ProtocolVersion: 1, SessionId: v.session})
	return v
}

// next waits for a delivery.
func (v *victim) next(t *testing.T) *queuepb.Delivery {
	t.Helper()
	for {
		res, err := v.consuming.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if d := res.GetDelivery(); d != nil {
			return d
		}
	}
}

// neverWas looks like what a victim has, and nobody has it: of the spy's own tenant.
func (s *target) neverWas(t *testing.T, v *victim) *belongings {
	t.Helper()
	mint := func(h *queuepb.Handle, kind handles.Kind) *queuepb.Handle {
		like, err := handles.Parse(h.Token)
		if err != nil {
			t.Fatal(err)
		}
		return &queuepb.Handle{Token: s.ring.Mint(handles.Claims{
			Kind: kind, Tenant: 2, Shard: like.Shard(), Store: like.Store(), Slot: 4711, Nonce: 1,
			Attempt: like.Attempt(), Expires: like.Expiry().Unix(),
		}).Text()}
	}
	return &belongings{
		name: neverName, dead: otherID(v.dead), message: otherID(v.message),
		send: mint(v.send, handles.Send), receive: mint(v.receive, handles.Receive), lease: mint(v.lease, handles.Lease),
		session: []byte(strings.Repeat("n", 32)),
	}
}

// otherID changes a digit of an id.
func otherID(id string) string {
	b := []byte(id)
	at := len(b) - 5
	if b[at]++; b[at] != '1' { // of a 0
		b[at] = '0'
	}
	return string(b)
}

// checkIntact checks that the victim has all that it had.
func (v *victim) checkIntact(t *testing.T, s *target) {
	t.Helper()
	v.live.do(info(1))
	if v.live.result(1).GetGetServerInfo() == nil {
		t.Error("its session is not answered")
	}
	again, err := v.stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{Queue: v.name, Pipe: &queuepb.PipeOptions{}, IdempotencyKey: v.name})
	if err != nil || again.Receipt.MessageId != v.message || !again.Receipt.Duplicate {
		t.Errorf("its key gives %v, %v, want message %s again", again.GetReceipt(), err, v.message)
	}
	reply, err := v.stub.Reply(s.ctx, &queuepb.ReplyRequest{
		Handle: v.send, Lease: v.lease, Ack: true, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("v")},
	})
	if err != nil || reply.Result.Sequence != 1 {
		t.Errorf("its reply: %v, %v, want it to be the pipe's first", reply.GetResult(), err)
	}
	if _, err := v.stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{Queue: v.name}); err != nil {
		t.Error(err)
	}
	v.next(t)
	list, err := queuepb.NewAdminServiceClient(s.conn).ListMessages(s.ctx, &queuepb.ListMessagesRequest{
		Queue: v.name, State: queuepb.MessageState_MESSAGE_STATE_DEAD,
	})
	if err != nil || len(list.Messages) != 1 || list.Messages[0].MessageId != v.dead {
		t.Errorf("its dead messages: %v, %v, want %s", list.GetMessages(), err, v.dead)
	}
}
