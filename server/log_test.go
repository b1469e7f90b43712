package server_test

import (
	"bytes"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// logs is a log that can be read while it is written.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestP25LogHasNoSecrets sends canaries wherever a client can put bytes, and looks for them at the finest log level.
func TestP25LogHasNoSecrets(t *testing.T) {
	const canary = "CANARY-d41d8cd98f"
	out := &logs{}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug - 8}))
	bed := testbed.New(t,
		testbed.WithServer(func(c *server.Config) { c.Logger = log }),
		testbed.WithBroker(func(c *broker.Config) { c.Logger = log }))
	c := dial(t, bed)
	var tokens []string
	keep := func(hs ...*queuepb.Handle) {
		for _, h := range hs {
			tokens = append(tokens, h.GetToken())
		}
	}
	message := &queuepb.Message{Payload: []byte(canary), ContentType: canary, Headers: map[string]string{"a": canary}}
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
	res := must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{
		Queue: "work", Message: message, Pipe: &queuepb.PipeOptions{},
	}))
	d := c.delivery(consumer)
	keep(res.Receipt.ReceiveHandle, d.Lease, d.Message.ReplyTo)
	_, _ = c.Reply(c.ctx, &queuepb.ReplyRequest{
		Handle: d.Message.ReplyTo, Lease: d.Lease, Ack: true,
		Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{Code: 5, Reason: "CANARY", Message: canary}},
	})
	stream := must[grpc.ServerStreamingClient[queuepb.ReceiveResponse]](t)(c.Receive(c.ctx, &queuepb.ReceiveRequest{Handle: res.Receipt.ReceiveHandle}))
	for {
		if _, err := stream.Recv(); err != nil {
			break
		}
	}
	// Refused, in many ways.
	for _, secret := range append(tokens, canary) {
		_, _ = c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: secret, Message: message})
		_, _ = c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "work", Message: &queuepb.Message{Headers: map[string]string{secret: secret}}})
		_, _ = c.Settle(c.ctx, &queuepb.SettleRequest{Lease: &queuepb.Handle{Token: secret}, Reason: canary})
		_, _ = c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: &queuepb.Handle{Token: secret}, Message: canary})
		_, _ = c.Describe(c.ctx, &queuepb.DescribeRequest{Handle: &queuepb.Handle{Token: secret + "x"}})
	}
	s := c.openSession(&queuepb.Hello{ClientName: "log test", SessionId: []byte(canary)}, opCall(1, "work", canary))
	s.next(1)
	s.do(opCall(1, "work", canary)) // ends the session
	s.end()
	if err := bed.Close(); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.Contains(got, "method=/replyq.v1.QueueService/Enqueue") || !strings.Contains(got, "reason=OP_ID_INVALID") ||
		!strings.Contains(got, "principal=anonymous") || !strings.Contains(got, "peer=127.0.0.1") {
		t.Errorf("log = %s, want lines with method, reason, principal and peer", got)
	}
	for _, secret := range append(tokens, canary) {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), secret[5:]} {
			if strings.Contains(got, form) {
				t.Errorf("the log has a secret: %s", form)
			}
		}
	}
}

// TestRepliersErrorIsNoneOfTheServer: a replier may say INTERNAL; the server's log has no error for it.
func TestRepliersErrorIsNoneOfTheServer(t *testing.T) {
	out := &logs{}
	log := slog.New(slog.NewTextHandler(out, nil))
	bed := testbed.New(t, testbed.WithServer(func(c *server.Config) { c.Logger = log }))
	c := dial(t, bed)
	for _, code := range []codes.Code{codes.Unknown, codes.Internal, codes.DataLoss} {
		opened := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
		must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
			Handle: opened.SendHandle, Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{Code: int32(code)}},
		}))
		stream := must[grpc.ServerStreamingClient[queuepb.ReceiveResponse]](t)(c.Receive(c.ctx, &queuepb.ReceiveRequest{Handle: opened.ReceiveHandle}))
		err := error(nil)
		for err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != code {
			t.Errorf("Receive() = %v, want %v", err, code)
		}
	}
	if err := bed.Close(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "level=ERROR") || !strings.Contains(got, "level=INFO msg=call method=/replyq.v1.QueueService/Receive") {
		t.Errorf("log = %s, want the calls as lines of level INFO", got)
	}
}
