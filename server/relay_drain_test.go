package server_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/replyq/replyq/api/queuepb"
	goclient "github.com/replyq/replyq/client"
)

// TestRelayDrains: the clients of a replica that stops, and relays, go on at another one at once, also while streams that
// cannot move keep it from ending; and those have their time.
func TestRelayDrains(t *testing.T) {
	c := newCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	names := manual.NewBuilderWithScheme("replicas")
	names.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: c.replicas[1].address}, {Addr: c.replicas[2].address}}})
	mobile := must[*goclient.Client](t)(goclient.New("replicas:///all", goclient.WithDialOptions(grpc.WithResolvers(names))))
	defer func() { _ = mobile.Close() }()
	waits := must[queuepb.QueueService_CallClient](t)(c.plain(1).Call(ctx, &queuepb.CallRequest{Queue: "slow"}))
	if res := must[*queuepb.CallResponse](t)(waits.Recv()); res.GetReceipt() == nil {
		t.Fatalf("a call began with %v, want its receipt", res)
	}
	slow := must[*goclient.Consumer](t)(mobile.Consume(ctx, goclient.ConsumeConfig{DisconnectGrace: time.Minute}, "slow"))
	held := must[*goclient.Delivery](t)(slow.Next(ctx))

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.replicas[1].Shutdown(ctx)
	}()
	for look := time.NewTicker(time.Millisecond); ; <-look.C { // until it takes nobody in any more
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.replicas[1].address)
		if err != nil {
			look.Stop()
			break
		}
		_ = conn.Close()
	}
	if _, err := mobile.Enqueue(ctx, "other", goclient.Message{}); err != nil {
		t.Errorf("Enqueue() = %v", err)
	}
	select {
	case <-stopped:
		t.Error("the replica stopped, and a call that waited there had no answer")
	default:
	}
	if _, err := held.Reply(ctx, goclient.Answer{Payload: []byte("late")}); err != nil {
		t.Errorf("Reply() = %v", err)
	}
	res, err := waits.Recv()
	if err != nil || string(res.GetReply().GetPayload()) != "late" {
		t.Errorf("the call that waited had %v, %v, want its reply", res, err)
	}
	<-stopped
}
