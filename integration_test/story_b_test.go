package integration_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
)

// The key, cluster and a token from handles/testdata/vectors.json ("smallest values"): a genuine send handle of tenant 1
// that expired long ago. A server that has this key made handles like it then.
const (
	vectorRoot    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	vectorCluster = "vector-cluster"
	expiredToken  = "qh1s_EQAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHrF9tAacSAVTnSr1Pl0fiN"
)

// A handle that is damaged, forged, expired or foreign is refused in the producer, and the field is named.
func TestStoryB(t *testing.T) {
	t.Parallel()
	ours, ourKey, theirKey := startTwoTenants(t,
		"--key-file", writeFile(t, "handle-keys", "0 mint 2024-01-01T00:00:00Z "+vectorRoot), "--cluster-name", vectorCluster)
	good := openPipe(t, ours, ourKey)
	foreign := openPipe(t, startServer(t), "")
	theirs := openPipe(t, ours, theirKey)

	cases := []struct {
		name, token, code, reason string
	}{
		{"damaged", damage(good.send), "INVALID_ARGUMENT", "HANDLE_INVALID"},
		{"forged", good.send[:len(good.send)-22] + strings.Repeat("A", 22), "INVALID_ARGUMENT", "HANDLE_INVALID"},
		{"no handle", "qh1s_canary", "INVALID_ARGUMENT", "HANDLE_INVALID"},
		{"another server's", foreign.send, "INVALID_ARGUMENT", "HANDLE_INVALID"},
		{"another tenant's", theirs.send, "NOT_FOUND", "HANDLE_UNKNOWN"},
		{"expired", expiredToken, "FAILED_PRECONDITION", "HANDLE_EXPIRED"},
		{"a lease's kind", good.lease, "INVALID_ARGUMENT", "HANDLE_KIND"},
		{"the other end", good.receive, "INVALID_ARGUMENT", "HANDLE_KIND"},
	}
	fields := []struct {
		option, prefix, path string
	}{
		{"--reply-to", "", "message.reply_to"},
		{"--handle", "audit=", `message.handles["audit"]`},
	}
	t.Run("group", func(t *testing.T) { // is over when all its parallel tests are
		for _, c := range cases {
			for _, f := range fields {
				if c.name == "the other end" && f.option == "--handle" {
					continue // handles of both kinds travel
				}
				t.Run(c.name+" in "+f.path, func(t *testing.T) {
					t.Parallel()
					for _, l := range languages() {
						if c.name == "no handle" && l == inGo {
							continue // package client cannot be given one
						}
						p := ours.play(t, l, "producer", "--key", ourKey, "--queue", "refused", "--payload", canary,
							f.option, f.prefix+c.token)
						got := p.next(t)
						checkRich(t, l, got, c.code, c.reason, f.path)
						got.Message, got.Rich = "", nil
						got.compare(t, p.name, event{Event: "status", Code: c.code, Reason: c.reason, Field: f.path})
					}
				})
			}
		}
	})
	checkNothingStored(t, ours, ourKey, "refused")
}

// Not only Enqueue refuses: whatever carries a handle does, and the path leads to it.
func TestStoryBEverywhere(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stub := s.stub(t)
	good, foreign := openPipe(t, s, ""), openPipe(t, startServer(t), "")
	bad := map[string]*queuepb.Handle{"audit": {Token: foreign.send}}
	message := &queuepb.Message{Payload: []byte(canary), Handles: bad}

	var trailer metadata.MD
	check := func(what string, err error, field string) {
		t.Helper()
		got := []string{status.Code(err).String(), strings.Join(trailer.Get("replyq-reason"), " "), strings.Join(trailer.Get("replyq-field"), " ")}
		want := []string{"InvalidArgument", "HANDLE_INVALID", field}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}

	call, err := stub.Call(t.Context(), &queuepb.CallRequest{Queue: "refused", Message: message})
	if err == nil {
		_, err = call.Recv()
		trailer = call.Trailer()
	}
	check("Call", err, `message.handles["audit"]`)

	_, err = stub.Reply(t.Context(), &queuepb.ReplyRequest{
		Handle: &queuepb.Handle{Token: good.send}, Handles: bad, Body: &queuepb.ReplyRequest_Payload{},
	}, grpc.Trailer(&trailer))
	check("Reply", err, `handles["audit"]`)

	_, err = stub.Reply(t.Context(), &queuepb.ReplyRequest{
		Handle: &queuepb.Handle{Token: good.send},
		Body:   &queuepb.ReplyRequest_Splice{Splice: &queuepb.Handle{Token: foreign.receive}},
	}, grpc.Trailer(&trailer))
	check("Reply with a splice", err, "splice")

	_, err = stub.Settle(t.Context(), &queuepb.SettleRequest{
		Lease: &queuepb.Handle{Token: good.lease}, Messages: []*queuepb.EnqueueRequest{{Queue: "refused", Message: message}},
	}, grpc.Trailer(&trailer))
	check("Settle", err, `messages[0].message.handles["audit"]`)

	_, err = stub.Cancel(t.Context(), &queuepb.CancelRequest{Handle: &queuepb.Handle{Token: foreign.receive}}, grpc.Trailer(&trailer))
	check("Cancel", err, "handle")

	// A batch is not atomic: the good one is stored, and the bad one's error has its path.
	batch, err := stub.EnqueueBatch(t.Context(), &queuepb.EnqueueBatchRequest{
		Items: []*queuepb.EnqueueRequest{{Queue: "good"}, {Queue: "refused", Message: message}},
	})
	if err != nil {
		t.Fatalf("EnqueueBatch() = %v", err)
	}
	if batch.Results[0].GetReceipt() == nil {
		t.Errorf("EnqueueBatch(): first result = %v, want a receipt", batch.Results[0].GetError().GetReason())
	}
	if e := batch.Results[1].GetError(); e.GetReason() != "HANDLE_INVALID" || e.GetField() != `items[1].message.handles["audit"]` {
		t.Errorf("EnqueueBatch(): second result = %s %s", e.GetReason(), e.GetField())
	}
	if n := s.statistics(t, "refused").EnqueuedTotal; n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}

// checkRich checks what Python reads from grpc-status-details-bin; the field is there if it is the argument's fault.
func checkRich(t *testing.T, l language, got event, code, reason, field string) {
	t.Helper()
	if l != inPython {
		return
	}
	want := &eventStatus{Reason: reason, Domain: "replyq"}
	switch code {
	case "INVALID_ARGUMENT":
		want.Code, want.Field = 3, field
	case "NOT_FOUND":
		want.Code = 5
	case "FAILED_PRECONDITION":
		want.Code = 9
	}
	if diff := cmp.Diff(want, got.Rich); diff != "" {
		t.Errorf("grpc-status-details-bin: -want +got\n%s", diff)
	}
}

// A pipeTokens are the two ends of a pipe, and a lease.
type pipeTokens struct{ send, receive, lease string }

// openPipe opens a pipe, and takes a lease on some message.
func openPipe(t *testing.T, s *server, key string) pipeTokens {
	t.Helper()
	ctx := t.Context()
	if key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	stub := s.stub(t)
	pipe, err := stub.OpenPipe(ctx, &queuepb.OpenPipeRequest{})
	if err != nil {
		t.Fatalf("OpenPipe() = %v", err)
	}
	if _, err := stub.Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "leases"}); err != nil {
		t.Fatalf("Enqueue() = %v", err)
	}
	stream, err := stub.Consume(ctx, &queuepb.ConsumeRequest{Queues: []string{"leases"}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		res, err := stream.Recv()
		if err != nil {
			t.Fatalf("Consume() = %v", err)
		}
		if d := res.GetDelivery(); d != nil {
			return pipeTokens{pipe.SendHandle.Token, pipe.ReceiveHandle.Token, d.Lease.Token}
		}
	}
}

// damage changes one character in the middle of a token.
func damage(token string) string {
	b := []byte(token)
	middle := len(b) / 2
	if b[middle]++; b[middle] == 'Z'+1 || b[middle] == 'z'+1 || b[middle] == '9'+1 || !isWord(b[middle]) {
		b[middle] = 'a'
	}
	return string(b)
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// checkNothingStored checks that no queue of this name holds a message, or that there is none.
func checkNothingStored(t *testing.T, s *server, key, queue string) {
	t.Helper()
	conn := s.dial(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
	res, err := queuepb.NewAdminServiceClient(conn).ListQueues(ctx, &queuepb.ListQueuesRequest{Prefix: queue})
	if err != nil {
		t.Fatalf("ListQueues() = %v", err)
	}
	for _, q := range res.Queues {
		if n := q.Statistics; n.Ready+n.InFlight+n.Delayed+n.EnqueuedTotal != 0 {
			t.Errorf("queue %q holds messages: %v", q.Name, n)
		}
	}
}
