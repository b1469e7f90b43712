package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// as adds credentials to a client's calls.
func (c *client) as(key string) *client {
	with := *c
	with.ctx = metadata.AppendToOutgoingContext(c.ctx, "authorization", "Bearer "+key)
	return &with
}

func TestCredentials(t *testing.T) {
	clock := newClock()
	good, goodLine := server.NewAPIKey("acme", 7, "web", time.Time{})
	old, oldLine := server.NewAPIKey("acme", 7, "web", clock.now().Add(time.Hour))
	keys, err := server.ParseAPIKeys([]byte(goodLine + "\n" + oldLine + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	bed := testbed.New(t, testbed.WithServer(clock.server), testbed.WithServer(func(c *server.Config) { c.APIKeys = keys }))
	c := dial(t, bed)
	info := func(headers ...string) (*queuepb.GetServerInfoResponse, refusal) {
		ctx := c.ctx
		for _, h := range headers {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", h)
		}
		var trailer metadata.MD
		res, err := c.GetServerInfo(ctx, &queuepb.GetServerInfoRequest{}, grpc.Trailer(&trailer))
		if err != nil {
			return nil, refusalOf(t, err, trailer)
		}
		return res, refusal{}
	}
	missing := refusal{codes.Unauthenticated, "CREDENTIALS_MISSING", ""}
	invalid := refusal{codes.Unauthenticated, "CREDENTIALS_INVALID", ""}
	for _, test := range []struct {
		name    string
		headers []string
		want    refusal
	}{
		{"good", []string{"Bearer " + good}, refusal{}},
		{"scheme in lower case", []string{"bearer " + good}, refusal{}},
		{"not expired", []string{"Bearer " + old}, refusal{}},
		{"none", nil, missing},
		{"empty", []string{""}, missing},
		{"two", []string{"Bearer " + good, "Bearer " + good}, invalid},
		{"other scheme", []string{"Basic " + good}, invalid},
		{"no scheme", []string{good}, invalid},
		{"other key", []string{"Bearer qk1_" + strings.Repeat("A", 43)}, invalid},
		{"longer key", []string{"Bearer " + good + "A"}, invalid},
		{"long", []string{"Bearer " + strings.Repeat("A", 4096)}, invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			res, got := info(test.headers...)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if got == (refusal{}) && (res.Tenant != "acme" || res.Principal != "web") {
				t.Errorf("caller is %s of %s, want web of acme", res.Principal, res.Tenant)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		clock.advance(time.Hour)
		if _, got := info("Bearer " + old); got != invalid {
			t.Errorf("got %v, want %v", got, invalid)
		}
	})
	t.Run("streams", func(t *testing.T) {
		stream, err := c.Session(c.ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if got := refusalOf(t, err, stream.Trailer()); got != missing {
			t.Errorf("Session: got %v, want %v", got, missing)
		}
		if s := c.as(good).openSession(&queuepb.Hello{}); s.hello.Tenant != "acme" {
			t.Errorf("session's tenant = %q, want acme", s.hello.Tenant)
		}
	})
	t.Run("health is open, reflection is not", func(t *testing.T) {
		conn := must[*grpc.ClientConn](t)(bed.Dial())
		if _, err := healthpb.NewHealthClient(conn).Check(c.ctx, &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("health = %v, want an answer", err)
		}
		list := func(ctx context.Context) error {
			stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&reflectionpb.ServerReflectionRequest{
				MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
			}) // the answer tells
			_, err = stream.Recv()
			return err
		}
		if err := list(c.ctx); status.Code(err) != codes.Unauthenticated {
			t.Errorf("reflection without a key = %v, want Unauthenticated", err)
		}
		if err := list(c.as(good).ctx); err != nil {
			t.Errorf("reflection with a key = %v, want an answer", err)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		if err := keys.Replace([]byte(oldLine)); err != nil {
			t.Fatal(err)
		}
		if _, got := info("Bearer " + good); got != invalid {
			t.Errorf("key that is gone: got %v, want %v", got, invalid)
		}
	})
}

// TestP16TenantsAreApart: a tenant does not see another's queues, and its handles mean nothing to another.
func TestP16TenantsAreApart(t *testing.T) {
	a, lineA := server.NewAPIKey("a", 2, "p", time.Time{})
	b, lineB := server.NewAPIKey("b", 3, "p", time.Time{})
	keys, err := server.ParseAPIKeys([]byte(lineA + "\n" + lineB))
	if err != nil {
		t.Fatal(err)
	}
	both := newClient(t, testbed.WithServer(func(c *server.Config) { c.APIKeys = keys }))
	ca, cb := both.as(a), both.as(b)
	pipe := must[*queuepb.OpenPipeResponse](t)(ca.OpenPipe(ca.ctx, &queuepb.OpenPipeRequest{}))
	_, trailer, err := cb.send(&queuepb.DescribeRequest{Handle: pipe.ReceiveHandle})
	want := refusal{codes.NotFound, "HANDLE_UNKNOWN", "handle"}
	if got := refusalOf(t, err, trailer); got != want {
		t.Errorf("another tenant's handle: got %v, want %v", got, want)
	}
	_, _, gone := cb.send(&queuepb.DescribeRequest{Handle: cb.mint(t, 3, time.Now().Unix()+1000)})
	if gone == nil || gone.Error() != err.Error() {
		t.Errorf("another tenant's handle gives %v, and an unknown one %v: want the same", err, gone)
	}
	must[*queuepb.EnqueueResponse](t)(ca.Enqueue(ca.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("a's")}))
	must[*queuepb.EnqueueResponse](t)(cb.Enqueue(cb.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("b's")}))
	if d := cb.delivery(cb.consume(&queuepb.ConsumeRequest{Queues: []string{"q"}})); string(d.Message.Payload) != "b's" {
		t.Errorf("b's consumer got %q, want its own", d.Message.Payload)
	}
}
