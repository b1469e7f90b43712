package integration_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/badinput"
)

// secrets are what a server must keep to itself, by what they are.
type secrets map[string]string

// fragment is how much of a secret must not be seen anywhere: a prefix of it would help a thief, too.
const fragment = 12

// leaks looks for parts of secrets in what a server has said, as they are and in the usual encodings.
func (s secrets) leaks(said string) (found []string) {
	lower := strings.ToLower(said)
	for what, secret := range s {
		for i := 0; i+fragment <= len(secret); i++ {
			part := secret[i : i+fragment]
			b64 := base64.RawURLEncoding.EncodeToString([]byte(part)) // the fragments of all positions: one of three is aligned
			switch {
			case strings.Contains(said, part):
				found = append(found, what)
			case strings.Contains(lower, hex.EncodeToString([]byte(part))):
				found = append(found, what+", in hex")
			case strings.Contains(said, b64), strings.Contains(said, base64.StdEncoding.EncodeToString([]byte(part))):
				found = append(found, what+", in base64")
			default:
				continue
			}
			break
		}
	}
	return found
}

// The check itself finds what it looks for.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	s := secrets{"secret": "the whole of a secret, which is long"}
	secret := []byte(s["secret"])
	for _, said := range []string{
		"x the whole of a y", strings.ToUpper(hex.EncodeToString(secret)), base64.StdEncoding.EncodeToString(append([]byte("x"), secret...)),
		base64.RawURLEncoding.EncodeToString(append([]byte("xy"), secret...)),
	} {
		if len(s.leaks(said)) == 0 {
			t.Errorf("nothing was found in %q", said)
		}
	}
	if got := s.leaks("the whole story, and nothing of it"); got != nil {
		t.Errorf("found %v where there is nothing", got)
	}
}

// canaryOf is a secret of the test's own.
func (s secrets) canaryOf(what string) string {
	s[what] = fmt.Sprintf("canary-%s-%x", what, []byte(what))
	return s[what]
}

// token is a handle that the server has given out; its bytes are secret in every form.
func (s secrets) token(t *testing.T, what string, h *queuepb.Handle) {
	t.Helper()
	parsed, err := handles.Parse(h.GetToken())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	b, err := parsed.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	s[what], s[what+", nonce and tag"] = h.Token[len("qh1s_")+24:], string(append(b[20:28:28], b[32:]...))
}

// TestP25SecretsStayInside: nothing of what clients send, of handles and of keys is in what a server says, at the finest
// level, when all goes well, when nothing does, when its files of keys are wrong, and when it tells what all its goroutines
// do.
func TestP25SecretsStayInside(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	said := secrets{"root key": vectorRoot, "root key, raw": string(unhex(t, vectorRoot))}
	for what, ctx := range map[string]context.Context{"API key": s.ctx, "other API key": s.foreign} {
		md, _ := metadata.FromOutgoingContext(ctx)
		said[what] = strings.TrimPrefix(md.Get("authorization")[0], "Bearer qk1_")
	}
	fixture, stop := s.prepare(t)
	defer stop()
	for what, h := range map[string]*queuepb.Handle{
		"send handle": fixture.Pipe.Send, "receive handle": fixture.Pipe.Receive, "lease": fixture.Lease,
		"settled lease": fixture.Settled, "ended handle": fixture.Ended.Send,
	} {
		said.token(t, what, h)
	}
	session, err := badinput.OpenSession(s.ctx, s.conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range badinput.Rows(fixture) {
		_, _, _ = badinput.Plain(s.ctx, s.conn, row.Method, row.Request) // TestP26BadInput looks at what comes back
		if row.InSession {
			if _, _, err := session.Do(&row); err != nil {
				t.Fatalf("%s: %v", row.Name, err)
			}
		}
	}
	s.sing(t, said)
	s.confuse(t, said)
	s.spoilKeys(t, said)

	s.signal(t, syscall.SIGQUIT)
	s.wait(t, patience)
	log := s.log.String()
	for _, part := range []string{"session opened", "principal", "keys not read again", "goroutine "} {
		if !strings.Contains(log, part) {
			t.Errorf("the server has not said %q: the test tests little", part)
		}
	}
	for _, leak := range said.leaks(log) {
		t.Errorf("the server has said the %s", leak)
	}
	s.log.cut(0) // the errors in it were wanted
}

// sing puts a canary into every field of a request that is answered.
func (s *target) sing(t *testing.T, said secrets) {
	t.Helper()
	stub := queuepb.NewQueueServiceClient(s.conn)
	consumer, err := stub.Consume(s.ctx, &queuepb.ConsumeRequest{Queues: []string{"sing"}, ConsumerId: said.canaryOf("consumer-id")})
	if err != nil {
		t.Fatal(err)
	}
	call, err := stub.Call(s.ctx, &queuepb.CallRequest{
		Queue: "sing", Group: said.canaryOf("group"), IdempotencyKey: said.canaryOf("key"),
		Message: &queuepb.Message{
			Payload: []byte(said.canaryOf("payload")), ContentType: said.canaryOf("type"),
			Headers: map[string]string{"a": said.canaryOf("header")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var d *queuepb.Delivery
	for d == nil {
		res, err := consumer.Recv()
		if err != nil {
			t.Fatal(err)
		}
		d = res.GetDelivery()
	}
	said.token(t, "reply_to", d.Message.ReplyTo)
	said.token(t, "lease of a delivery", d.Lease)
	if _, err := stub.Reply(s.ctx, &queuepb.ReplyRequest{
		Handle: d.Message.ReplyTo, ReplyId: said.canaryOf("reply-id"), More: true,
		Body: &queuepb.ReplyRequest_Payload{Payload: []byte(said.canaryOf("reply"))},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := stub.Settle(s.ctx, &queuepb.SettleRequest{
		Lease: d.Lease, Action: queuepb.SettleAction_SETTLE_ACTION_REJECT, Reason: said.canaryOf("reason"),
		Replies: []*queuepb.ReplyRequest{{Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{
			Code: 13, Reason: "CANARY", Message: said.canaryOf("error"), Metadata: map[string]string{"a": said.canaryOf("fact")},
			Details: []*anypb.Any{{TypeUrl: "type/" + said.canaryOf("detail"), Value: []byte(said["detail"])}},
		}}}},
	}); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := call.Recv(); err != nil {
			break // the replier's error
		}
	}
}

// confuse puts secrets where they do not belong.
func (s *target) confuse(t *testing.T, said secrets) {
	t.Helper()
	stub := queuepb.NewQueueServiceClient(s.conn)
	for _, secret := range said {
		secret = strings.ToValidUTF8(secret, "")
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer qk1_"+hex.EncodeToString([]byte(secret)))
		for _, err := range []error{
			second(stub.GetServerInfo(ctx, &queuepb.GetServerInfoRequest{})), // with a key that is none
			second(stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{Queue: secret + "!"})),
			second(stub.Enqueue(s.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{Headers: map[string]string{secret + "!": secret}}})),
			second(stub.Settle(s.ctx, &queuepb.SettleRequest{Lease: &queuepb.Handle{Token: secret}})),
			second(stub.Describe(s.ctx, &queuepb.DescribeRequest{Handle: &queuepb.Handle{Token: "qh1s_" + secret}})),
			second(stub.StopConsuming(s.ctx, &queuepb.StopConsumingRequest{ConsumerId: secret + "!"})),
		} {
			if err == nil {
				t.Error("a secret in the wrong place was taken")
			}
		}
		raw := s.rawSession(s.ctx, t, &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte(strings.Repeat(secret, 16)[:16])})
		raw.send([]byte("\xff" + secret))
		raw.end()
	}
	_ = s.conn.Invoke(s.ctx, "/"+said.canaryOf("method")+"/x", &queuepb.EnqueueRequest{}, &queuepb.EnqueueResponse{},
		grpc.Header(&metadata.MD{})) // no such method
}

func second[T any](_ T, err error) error { return err }

// spoilKeys lets the server read files in which keys stand in the wrong places.
func (s *target) spoilKeys(t *testing.T, said secrets) {
	t.Helper()
	root := strings.Repeat("5ec2e7", 10) + "0000"
	said["misplaced root key"] = root
	said["misplaced API key"] = "bWlzcGxhY2VkIEFQSSBrZXkgd2l0aG91dCBoYXNo"
	for i, flag := range s.flags {
		content := ""
		switch flag {
		case "--key-file":
			content = root + " mint 2024-01-01T00:00:00Z 0\n"
		case "--api-keys":
			content = "qk1_" + said["misplaced API key"] + " default 1 alice\n"
		default:
			continue
		}
		if err := os.WriteFile(s.flags[i+1], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.signal(t, syscall.SIGHUP)
	eventually(t, "both files are refused", func() bool {
		return strings.Count(s.log.String(), "keys not read again") == 2
	})
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
