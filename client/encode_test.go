package client

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/buffers"
)

// testHandle makes a handle of good form that no server minted.
func testHandle(t testing.TB, kind handles.Kind, fill byte) handles.Handle {
	t.Helper()
	b := make([]byte, handles.Size)
	for i := range b {
		b[i] = fill
	}
	b[0] = 1<<4 | byte(kind)
	b[2], b[3], b[10], b[11] = 0, 0, 0, 0
	h, err := handles.ParseBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// decodeOperation decodes what the hand-written code encoded, with the generated code.
func decodeOperation(t *testing.T, body []byte) *queuepb.Operation {
	t.Helper()
	op := new(queuepb.Operation)
	if err := proto.Unmarshal(body, op); err != nil {
		t.Fatal(err)
	}
	return op
}

// everyFieldSet fails if a field of the message is not set, but for the named ones.
func everyFieldSet(t *testing.T, m proto.Message, but ...protoreflect.Name) {
	t.Helper()
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
next:
	for i := range fields.Len() {
		f := fields.Get(i)
		for _, name := range but {
			if f.Name() == name {
				continue next
			}
		}
		if !r.Has(f) {
			t.Errorf("%s.%s is not set: is it encoded?", r.Descriptor().Name(), f.Name())
		}
	}
}

func TestEncodeEnqueueAndCall(t *testing.T) {
	send, receive := testHandle(t, handles.Send, 7), testHandle(t, handles.Receive, 9)
	at := time.Unix(1_800_000_000, 5).UTC()
	for _, size := range []int{0, 1, 100, 200, 17_000} {
		payload := []byte(strings.Repeat("x", size))
		m := Message{
			Payload: payload, ContentType: "text/plain", Headers: map[string]string{"a": "1", "b": ""},
			ReplyTo: send, Handles: map[string]handles.Handle{"audit": receive},
		}
		o := applyOptions([]EnqueueOption{
			WithPipe(PipeOptions{
				Timeout: 3 * time.Second, Parent: receive, DisconnectGrace: time.Minute, KeepIfAbandoned: true,
				CapacityReplies: 5, CapacityBytes: 6, Retain: 1500 * time.Millisecond,
			}),
			WithDelay(time.Second), WithDeliverAt(at), WithExpiry(time.Hour), WithPriority(9), WithGroup("g"),
			WithIdempotencyKey("k"), WithRequireConsumer(), WithFromSequence(17),
		})
		message := &queuepb.Message{
			Payload: payload, ContentType: "text/plain", Headers: map[string]string{"a": "1", "b": ""},
			ReplyTo: &queuepb.Handle{Token: send.Text()},
			Handles: map[string]*queuepb.Handle{"audit": {Token: receive.Text()}},
		}
		pipe := &queuepb.PipeOptions{
			Timeout: durationpb.New(3 * time.Second), Parent: &queuepb.Handle{Token: receive.Text()},
			DisconnectGrace: durationpb.New(time.Minute), IfAbandoned: queuepb.IfAbandoned_IF_ABANDONED_KEEP,
			CapacityReplies: 5, CapacityBytes: 6, Retain: durationpb.New(1500 * time.Millisecond),
		}
		call := &queuepb.CallRequest{
			Queue: "orders", Message: message, Pipe: pipe, Delay: durationpb.New(time.Second),
			DeliverAt: timestamppb.New(at), Expiry: durationpb.New(time.Hour), Priority: 9, Group: "g",
			IdempotencyKey: "k", RequireConsumer: true, FromSequence: 17,
		}
		enqueue := &queuepb.EnqueueRequest{
			Queue: "orders", Message: message, Pipe: pipe, Delay: call.Delay, DeliverAt: call.DeliverAt,
			Expiry: call.Expiry, Priority: 9, Group: "g", IdempotencyKey: "k", RequireConsumer: true,
		}
		if size > 0 {
			everyFieldSet(t, message)
		}
		everyFieldSet(t, pipe)
		everyFieldSet(t, call)
		everyFieldSet(t, enqueue)

		got := decodeOperation(t, appendEnqueue(nil, fieldOf(opCall), "orders", &m, o, time.Minute)).GetCall()
		if diff := cmp.Diff(call, got, protocmp.Transform()); diff != "" {
			t.Errorf("call with %d bytes (-want +got):\n%s", size, diff)
		}
		got2 := decodeOperation(t, appendEnqueue(nil, fieldOf(opEnqueue), "orders", &m, o, 0)).GetEnqueue()
		if diff := cmp.Diff(enqueue, got2, protocmp.Transform()); diff != "" {
			t.Errorf("enqueue with %d bytes (-want +got):\n%s", size, diff)
		}
	}
}

func TestEncodeCallTakesDeadline(t *testing.T) {
	got := decodeOperation(t, appendEnqueue(nil, fieldOf(opCall), "q", &Message{}, &noOptions, 90*time.Millisecond)).GetCall()
	want := &queuepb.CallRequest{
		Queue: "q", Message: &queuepb.Message{}, Pipe: &queuepb.PipeOptions{Timeout: durationpb.New(90 * time.Millisecond)}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestEncodeReply(t *testing.T) {
	send, receive := testHandle(t, handles.Send, 7), testHandle(t, handles.Receive, 9)
	answer := &Answer{
		Payload: []byte("p"), ContentType: "c", Headers: map[string]string{"h": "v"},
		Handles: map[string]handles.Handle{"f": receive},
	}
	wire := &queuepb.ReplyRequest{
		Handle: &queuepb.Handle{Token: send.Text()}, ContentType: "c", Headers: map[string]string{"h": "v"},
		Handles: map[string]*queuepb.Handle{"f": {Token: receive.Text()}}, More: true,
		Lease: &queuepb.Handle{Token: "lease"}, Ack: true, ReplyId: "id",
		Body: &queuepb.ReplyRequest_Payload{Payload: []byte("p")},
	}
	everyFieldSet(t, wire, "error", "splice")
	for _, test := range []struct {
		name string
		in   replyRequest
		want *queuepb.ReplyRequest
	}{
		{"answer", replyRequest{to: send.Text(), answer: answer, more: true, lease: "lease", ack: true, replyID: "id"}, wire},
		{"empty answer", replyRequest{to: "t", answer: &Answer{}},
			&queuepb.ReplyRequest{Handle: &queuepb.Handle{Token: "t"}, Body: &queuepb.ReplyRequest_Payload{}}},
		{"end", replyRequest{to: "t"}, &queuepb.ReplyRequest{Handle: &queuepb.Handle{Token: "t"}}},
		{"splice", replyRequest{to: "t", splice: receive}, &queuepb.ReplyRequest{
			Handle: &queuepb.Handle{Token: "t"},
			Body:   &queuepb.ReplyRequest_Splice{Splice: &queuepb.Handle{Token: receive.Text()}}}},
		{"error", replyRequest{to: "t", err: errors.New("no")}, &queuepb.ReplyRequest{
			Handle: &queuepb.Handle{Token: "t"},
			Body:   &queuepb.ReplyRequest_Error{Error: &queuepb.Error{Code: int32(codes.Unknown), Message: "no"}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := decodeOperation(t, appendReply(nil, fieldOf(opReply), &test.in)).GetReply()
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEncodeSettle(t *testing.T) {
	send := testHandle(t, handles.Send, 3)
	d := &Delivery{lease: "lease", replyTo: "reply-to"}
	got := decodeOperation(t, d.appendSettle(nil, &Settlement{
		Action: SettleRetry, Delay: time.Second, Reason: "why", KeepHandles: true,
		Replies:  []SettleReply{{Answer: &Answer{Payload: []byte("a")}, More: true}, {To: send}},
		Messages: []Item{{Queue: "next", Message: Message{Payload: []byte("m"), ReplyTo: send}}},
	})).GetSettle()
	want := &queuepb.SettleRequest{
		Lease: &queuepb.Handle{Token: "lease"}, Action: queuepb.SettleAction_SETTLE_ACTION_RETRY,
		Delay: durationpb.New(time.Second), Reason: "why", KeepHandles: true,
		Replies: []*queuepb.ReplyRequest{
			{Handle: &queuepb.Handle{Token: "reply-to"}, More: true, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("a")}},
			{Handle: &queuepb.Handle{Token: send.Text()}},
		},
		Messages: []*queuepb.EnqueueRequest{{
			Queue: "next", Message: &queuepb.Message{Payload: []byte("m"), ReplyTo: &queuepb.Handle{Token: send.Text()}}}},
	}
	everyFieldSet(t, want)
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestEncodeFrame(t *testing.T) {
	op := &operation{id: 300, kind: opInfo, credit: 256}
	op.body = appendRequest(nil, opInfo, new(queuepb.GetServerInfoRequest))
	f := frame{
		operations: []*operation{op}, credits: []itemCredit{{id: 7, items: 64}}, detach: []uint64{8, 9},
		creditBytes: 1 << 20, answeredBelow: 5,
	}
	buf := *f.encode(&buffers.Pool{}).buf
	if len(buf) > f.size() {
		t.Errorf("encode wrote %d bytes, more than size: %d", len(buf), f.size())
	}
	got := new(queuepb.SessionRequest)
	if err := proto.Unmarshal(buf, got); err != nil {
		t.Fatal(err)
	}
	want := &queuepb.SessionRequest{
		Operations: []*queuepb.Operation{{
			Id: 300, Credit: 256, Request: &queuepb.Operation_GetServerInfo{GetServerInfo: &queuepb.GetServerInfoRequest{}}}},
		Credits: []*queuepb.Credit{{Bytes: 1 << 20}, {OperationId: 7, Items: 64}},
		Detach:  []uint64{8, 9}, AnsweredBelow: 5,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestParseFrame(t *testing.T) {
	in := &queuepb.SessionResponse{
		Results: []*queuepb.Result{
			{Id: 300, Response: &queuepb.Result_Call{Call: &queuepb.CallResponse{
				Event: &queuepb.CallResponse_Reply{Reply: &queuepb.Reply{Sequence: 4, Payload: []byte("p")}}}}},
			{Id: 2, Done: true, Response: &queuepb.Result_Settle{Settle: &queuepb.SettleResponse{}}},
			{Id: 3, Response: &queuepb.Result_Error{Error: &queuepb.Error{Code: 5, Reason: "R"}}},
		},
		GoingAway: &queuepb.GoingAway{Message: "bye"}, Pong: 4,
	}
	b, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	results, away, err := parseFrame(b, nil)
	if err != nil || away.GetMessage() != "bye" || len(results) != 3 {
		t.Fatalf("got %d results, %v, %v", len(results), away, err)
	}
	if r := results[0]; r.id != 300 || r.kind != opCall || r.done || !r.isItem() || r.size != proto.Size(in.GetResults()[0]) {
		t.Errorf("first result: got %+v", r)
	}
	if num, bytes := event(results[0].body); num != 2 || replySequence(bytes) != 4 {
		t.Errorf("event: got %d, sequence %d", num, replySequence(bytes))
	}
	if r := results[1]; r.id != 2 || r.kind != opSettle || !r.done {
		t.Errorf("second result: got %+v", r)
	}
	if e := results[2].failure(); !results[2].done || !errors.Is(e, Reason("R")) || e.Code != codes.NotFound {
		t.Errorf("third result: got %v", e)
	}
	for n := range b { // what is cut off is refused or empty, never a panic
		_, _, _ = parseFrame(b[:n], nil)
	}
}
