package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// direct is a client of the server that serves, past the one that relays.
func direct(t *testing.T, bed *testbed.Bed) *client {
	t.Helper()
	c := dial(t, bed)
	c.QueueServiceClient = queuepb.NewQueueServiceClient(must[*grpc.ClientConn](t)(bed.DialOwner()))
	return c
}

// bytesCodec sends requests as they stand, and does not look at answers.
type bytesCodec struct{}

func (bytesCodec) Name() string                  { return "proto" }
func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil } //nolint:errcheck // nothing else is sent
func (bytesCodec) Unmarshal([]byte, any) error   { return nil }

// refused is how a call of a request ends that nobody carries out.
func refused(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) (metadata.MD, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		return nil, err
	}
	_ = stream.SendMsg(&request) // its error is that of RecvMsg
	_ = stream.CloseSend()
	for err == nil {
		err = stream.RecvMsg(new([]byte))
	}
	return stream.Trailer(), err
}

// TestRelayedErrorsAreTheOwners: whatever is wrong with a request, its status, details and trailers are byte for byte
// those that the owner gives.
func TestRelayedErrorsAreTheOwners(t *testing.T) {
	mine, line := server.NewAPIKey("acme", 9, "one", time.Time{})
	other, line2 := server.NewAPIKey("acme", 9, "two", time.Time{})
	keys := must[*server.APIKeys](t)(server.ParseAPIKeys([]byte(line + "\n" + line2)))
	bed := testbed.New(t, testbed.Relayed(), testbed.WithServer(func(c *server.Config) { c.APIKeys = keys }))
	past, through := must[*grpc.ClientConn](t)(bed.DialOwner()), must[*grpc.ClientConn](t)(bed.Dial())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	as := func(key string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	fixture, err := badinput.Prepare(badinput.Clients{
		Queues: queuepb.NewQueueServiceClient(past), Admin: queuepb.NewAdminServiceClient(past), Mine: as(mine), Other: as(other),
	}, bed.Keys)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, row := range badinput.Rows(fixture) {
		if row.Want == (badinput.Refusal{}) {
			continue
		}
		compared++
		t.Run(row.Name, func(t *testing.T) {
			wantTrailer, want := refused(as(mine), past, row.Method, row.Request)
			gotTrailer, got := refused(as(mine), through, row.Method, row.Request)
			if diff := cmp.Diff(status.Convert(want).Proto(), status.Convert(got).Proto(), protocmp.Transform()); diff != "" {
				t.Errorf("status (-owner +relayed):\n%s", diff)
			}
			if diff := cmp.Diff(wantTrailer, gotTrailer); diff != "" {
				t.Errorf("trailers (-owner +relayed):\n%s", diff)
			}
		})
	}
	if compared < 100 {
		t.Errorf("compared %d refusals, want the whole catalogue", compared)
	}
}

// TestRelayedIdentityIsProven: nobody but a replica says who calls.
func TestRelayedIdentityIsProven(t *testing.T) {
	bed := testbed.New(t, testbed.Relayed())
	proof := bed.Keys.Prove("replyq relayed call v1", []byte("7 seven\x00eve"))
	for name, md := range map[string]metadata.MD{
		"no proof":          metadata.Pairs("replyq-tenant", "7 seven", "replyq-principal", "eve"),
		"principal alone":   metadata.Pairs("replyq-principal", "eve"),
		"made up":           metadata.Pairs("replyq-peer", "00AAAA", "replyq-tenant", "7 seven", "replyq-principal", "eve"),
		"empty":             metadata.Pairs("replyq-peer", "", "replyq-tenant", "", "replyq-principal", ""),
		"another's":         metadata.Pairs("replyq-peer", proof, "replyq-tenant", "8 eight", "replyq-principal", "eve"),
		"twice":             metadata.Pairs("replyq-peer", proof, "replyq-tenant", "7 seven", "replyq-principal", "eve", "replyq-tenant", "8 eight"),
		"for other purpose": metadata.Pairs("replyq-peer", bed.Keys.Prove("lunch", []byte("7 seven\x00eve")), "replyq-tenant", "7 seven", "replyq-principal", "eve"),
	} {
		for at, c := range map[string]*client{"the relay": dial(t, bed), "the owner": direct(t, bed)} {
			t.Run(name+" at "+at, func(t *testing.T) {
				ctx := metadata.NewOutgoingContext(c.ctx, md)
				var trailer metadata.MD
				_, err := c.GetServerInfo(ctx, &queuepb.GetServerInfoRequest{}, grpc.Trailer(&trailer))
				if got, want := refusalOf(t, err, trailer), (refusal{codes.PermissionDenied, "TENANT_MISMATCH", ""}); got != want {
					t.Errorf("unary = %v, want %v", got, want)
				}
				stream := must[grpc.ServerStreamingClient[queuepb.ReceiveResponse]](t)(c.Receive(ctx, &queuepb.ReceiveRequest{}))
				if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
					t.Errorf("stream = %v, want PERMISSION_DENIED", err)
				}
			})
		}
	}
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.Pairs("replyq-peer", proof, "replyq-tenant", "7 seven", "replyq-principal", "eve"))
	if info, err := direct(t, bed).GetServerInfo(ctx, &queuepb.GetServerInfoRequest{}); err != nil || info.Tenant != "seven" || info.Principal != "eve" {
		t.Errorf("with proof: GetServerInfo() = %v, %v, want tenant seven and principal eve", info, err)
	}
}

// TestRelayedCallerIsTheClient: the owner knows the clients of other replicas by their keys there.
func TestRelayedCallerIsTheClient(t *testing.T) {
	key, line := server.NewAPIKey("acme", 9, "robot", time.Time{})
	keys := must[*server.APIKeys](t)(server.ParseAPIKeys([]byte(line)))
	bed := testbed.New(t, testbed.Relayed(), testbed.WithServer(func(c *server.Config) { c.APIKeys = keys }))
	c := dial(t, bed)
	if _, err := c.GetServerInfo(c.ctx, &queuepb.GetServerInfoRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a key: %v, want UNAUTHENTICATED", err)
	}
	ctx := metadata.AppendToOutgoingContext(c.ctx, "authorization", "Bearer "+key)
	info, err := c.GetServerInfo(ctx, &queuepb.GetServerInfoRequest{})
	if err != nil || info.Tenant != "acme" || info.Principal != "robot" {
		t.Errorf("GetServerInfo() = %v, %v, want acme's robot", info, err)
	}
	if want := fmt.Sprintf("%08x", bed.Broker.Store()); info.GetBootEpoch() != want {
		t.Errorf("boot epoch %s, want the owner's, %s", info.GetBootEpoch(), want)
	}
}

// TestNobodyServes: a call waits for an owner for a while, and is then told that nothing was done.
func TestNobodyServes(t *testing.T) {
	bed := testbed.New(t, testbed.Relayed())
	c := dial(t, bed)
	want := refusal{codes.Unavailable, "OWNER_UNREACHABLE", ""}
	check := func(what string, st error, trailer metadata.MD) {
		t.Helper()
		if got := refusalOf(t, st, trailer); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		if n := len(status.Convert(st).Details()); n != 2 {
			t.Errorf("%s: %d details, want ErrorInfo and RetryInfo: %v", what, n, st)
		}
	}
	for what, address := range map[string]string{"nobody is known": "", "nobody listens": "127.0.0.1:1"} {
		bed.Server.Relay(address)
		var trailer metadata.MD
		_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("x")}, grpc.Trailer(&trailer))
		check(what, err, trailer)
		stream := must[grpc.ServerStreamingClient[queuepb.ConsumeResponse]](t)(c.Consume(c.ctx, &queuepb.ConsumeRequest{Queues: []string{"q"}}))
		_, err = stream.Recv()
		check(what+", stream", err, stream.Trailer())
		s := must[grpc.BidiStreamingClient[queuepb.SessionRequest, queuepb.SessionResponse]](t)(c.Session(c.ctx))
		_ = s.Send(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1}})
		_, err = s.Recv()
		check(what+", session", err, s.Trailer())
	}
	// One that comes in time is found.
	bed.Server.Relay("")
	done := make(chan error, 1)
	go func() {
		_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("x")})
		done <- err
	}()
	bed.Server.Own(bed.Broker)
	if err := <-done; err != nil {
		t.Errorf("Enqueue() = %v, want it served by the new owner", err)
	}
}
