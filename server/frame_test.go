package server

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/buffers"
)

func newRing(t testing.TB) *handles.KeyRing {
	t.Helper()
	keys, err := handles.NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func claims(kind handles.Kind, slot uint32) handles.Claims {
	return handles.Claims{Kind: kind, Tenant: 1, Slot: slot, Nonce: 7, Expires: time.Now().Unix() + 100}
}

func mustMarshal(t testing.TB, m pb.Message) []byte {
	t.Helper()
	b, err := pb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overTheWire encodes with our codec and decodes with the standard one, which checks UTF-8 and knows nothing of ours.
func overTheWire(t testing.TB, r *queuepb.Result) *queuepb.Result {
	t.Helper()
	data, err := newCodec(limits{}, &buffers.Pool{}).Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	got := &queuepb.Result{}
	if err := pb.Unmarshal(data.Materialize(), got); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestRawBody: a body that is written as it was kept reads the same as one that was decoded and put in.
func TestRawBody(t *testing.T) {
	keys := newRing(t)
	f := frame{keys: keys}
	message := &queuepb.Message{
		Payload: []byte("payload"), ContentType: "text/plain", Headers: map[string]string{"a": "1", "b": ""},
		Handles: map[string]*queuepb.Handle{"audit": {Token: "t"}},
	}
	reply := &queuepb.Reply{
		Payload: []byte{}, ContentType: "x", Headers: map[string]string{"a": "1"},
		Handles: map[string]*queuepb.Handle{"f": {Token: "t"}},
	}
	failure := &queuepb.Error{Code: 5, Reason: "R", Message: "m", Metadata: map[string]string{"k": "v"}}
	id := broker.MessageID{Store: 1, Slot: 2, Tag: 3}
	at := broker.TimeOf(time.Unix(1_800_000_000, 5))
	lease, replyTo := claims(handles.Lease, 1), claims(handles.Send, 2)
	delivery := func(body *queuepb.Message, replyTo *queuepb.Handle) *queuepb.Result {
		want := pb.CloneOf(body)
		if replyTo != nil {
			want.ReplyTo = replyTo
		}
		return &queuepb.Result{Id: 9, Response: &queuepb.Result_Consume{Consume: &queuepb.ConsumeResponse{
			Event: &queuepb.ConsumeResponse_Delivery{Delivery: &queuepb.Delivery{
				MessageId: id.String(), Queue: "q", Lease: &queuepb.Handle{Token: keys.Mint(lease).Text()},
				LeaseExpiresAt: timestamppb.New(at.Std()), Attempt: 2, Failures: 1, Message: want,
				EnqueuedAt: timestamppb.New(at.Std()), EndedHandles: []string{"audit"},
			}},
		}}}
	}
	named := pb.CloneOf(message)
	named.ReplyTo = &queuepb.Handle{Token: "named by the producer"}
	base := broker.Delivery{
		Message: id, Queue: "q", Lease: lease, LeaseExpires: at, Attempt: 2, Failures: 1, EnqueuedAt: at, Ended: []string{"audit"},
	}
	with := func(m *queuepb.Message, claims handles.Claims) *broker.Delivery {
		d := base
		d.Body, d.ReplyTo = mustMarshal(t, m), claims
		return &d
	}
	minted := &queuepb.Handle{Token: keys.Mint(replyTo).Text()}
	event := func(k kind, e any) *queuepb.Result {
		r := &queuepb.Result{Id: 9}
		switch e := e.(type) {
		case *queuepb.Reply:
			r.Response = &queuepb.Result_Call{Call: &queuepb.CallResponse{Event: &queuepb.CallResponse_Reply{Reply: e}}}
			if k == kindReceive {
				r.Response = &queuepb.Result_Receive{Receive: &queuepb.ReceiveResponse{Event: &queuepb.ReceiveResponse_Reply{Reply: e}}}
			}
		case *queuepb.End:
			r.Response = &queuepb.Result_Call{Call: &queuepb.CallResponse{Event: &queuepb.CallResponse_End{End: e}}}
			if k == kindReceive {
				r.Response = &queuepb.Result_Receive{Receive: &queuepb.ReceiveResponse{Event: &queuepb.ReceiveResponse_End{End: e}}}
			}
		}
		return r
	}
	wantReply := pb.CloneOf(reply)
	wantReply.Sequence, wantReply.SourceMessageId, wantReply.Attempt, wantReply.EndedHandles = 4, id.String(), 2, []string{"f"}
	item := &broker.ReplyItem{Sequence: 4, Body: mustMarshal(t, reply), Source: id, Attempt: 2, Ended: []string{"f"}}
	for _, test := range []struct {
		name string
		kind kind
		body any
		want *queuepb.Result
	}{
		{"delivery with a minted reply_to", kindConsume, with(message, replyTo), delivery(message, minted)},
		{"delivery with a named reply_to", kindConsume, with(named, handles.Claims{}), delivery(named, nil)},
		{"delivery of nothing", kindConsume, with(&queuepb.Message{}, handles.Claims{}), delivery(&queuepb.Message{}, nil)},
		{"reply of a call", kindCall, item, event(kindCall, wantReply)},
		{"reply of a receive", kindReceive, item, event(kindReceive, wantReply)},
		{"end OK", kindCall, &broker.End{Reason: broker.EndOK, LastSequence: 4},
			event(kindCall, &queuepb.End{Reason: queuepb.EndReason_END_REASON_OK, LastSequence: 4})},
		{"end FAILED", kindReceive, &broker.End{Reason: broker.EndFailed, Body: mustMarshal(t, failure)},
			event(kindReceive, &queuepb.End{Reason: queuepb.EndReason_END_REASON_FAILED, Error: failure})},
		{"end of the server's", kindCall, &broker.End{Reason: broker.EndPurged, Text: "purged"},
			event(kindCall, &queuepb.End{Reason: queuepb.EndReason_END_REASON_PURGED, Error: &queuepb.Error{
				Code: int32(codes.Aborted), Reason: "PURGED", Message: "purged",
			}})},
	} {
		got := overTheWire(t, f.result(test.kind, 9, false, test.body))
		if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestResults: what a session's frame has is what the generated code would have written for the same events.
func TestResults(t *testing.T) {
	keys := newRing(t)
	id := broker.MessageID{Store: 1 << 31, Shard: 2, Slot: 3, Tag: 4}
	body := mustMarshal(t, &queuepb.Message{Payload: make([]byte, 300), Headers: map[string]string{"a": "1"}})
	answer := mustMarshal(t, &queuepb.Reply{Payload: make([]byte, 20_000), ContentType: "x"})
	at := broker.TimeOf(time.Unix(1_800_000_000, 5))
	events := []struct {
		kind kind
		body any
	}{
		{kindConsume, &broker.Delivery{}},
		{kindConsume, &broker.Delivery{
			Message: id, Queue: "q", Lease: claims(handles.Lease, 1), LeaseExpires: at, Attempt: 2, Failures: 1, Body: body,
			ReplyTo: claims(handles.Send, 2), EnqueuedAt: at, Deadline: -1, Ended: []string{"audit", "reply_to"}, Priority: 9,
			Group: "g",
		}},
		{kindCall, &broker.ReplyItem{}},
		{kindCall, &broker.ReplyItem{Sequence: 300, Body: answer, Source: id, Attempt: 2, Ended: []string{"f"}}},
		{kindReceive, &broker.ReplyItem{Sequence: 1, Body: answer, Source: id, Attempt: 2}},
		{kindCall, &broker.End{Reason: broker.EndOK, LastSequence: 4}},
		{kindReceive, &broker.End{Reason: broker.EndOK}},
		{kindReceive, &broker.End{Reason: broker.EndFailed, Body: mustMarshal(t, &queuepb.Error{Code: 5, Reason: "R"})}},
		{kindCall, &broker.End{Reason: broker.EndPurged, Text: "purged"}},
		{kindCall, &broker.Receipt{Message: id, Receive: claims(handles.Receive, 1), PipeDeadline: at, Consumers: 200}},
		{kindEnqueue, &broker.Receipt{Message: id, Duplicate: true, QueueCreated: true}},
		{kindReply, &broker.ReplyResult{Outcome: broker.ReplyEnded, EndReason: broker.EndOK}},
		{kindReply, &broker.ReplyResult{Outcome: broker.ReplyDelivered, Sequence: 1}},
		{kindSettle, &broker.Settled{Dead: true, Receipts: []broker.Receipt{{Message: id}}}},
		{kindSettle, &broker.Settled{}},
		{kindSettle, &broker.Settled{Already: true, Dead: true}},
		{kindEnqueueBatch, &batch{results: []batchResult{
			{receipt: broker.Receipt{Message: id}},
			{receipt: broker.Receipt{Message: id, Receive: claims(handles.Receive, 1), PipeDeadline: at, QueueCreated: true, Consumers: 9}},
		}}},
		{kindEnqueueBatch, &batch{refused: true, results: []batchResult{
			{receipt: broker.Receipt{Message: id}},
			{err: &broker.Error{Code: broker.CodeNotFound, Reason: broker.ReasonHandleUnknown, Text: strings.Repeat("unknown", 100)}},
		}}},
		{kindCancel, &broker.Error{Code: broker.CodeNotFound, Reason: broker.ReasonHandleUnknown, Text: "unknown"}},
		{kindConsume, nil},
	}
	for _, n := range []int{buffers.Large - 5, buffers.Large, 1<<21 - 160, 1<<21 - 5} { // the latter need another length of length
		events = append(events, []struct {
			kind kind
			body any
		}{
			{kindReceive, &broker.ReplyItem{Sequence: 1, Body: mustMarshal(t, &queuepb.Reply{Payload: make([]byte, n)}), Source: id, Attempt: 2}},
			{kindConsume, &broker.Delivery{
				Message: id, Queue: "q", Lease: claims(handles.Lease, 1), ReplyTo: claims(handles.Send, 2), EnqueuedAt: at,
				Body: mustMarshal(t, &queuepb.Message{Payload: make([]byte, n)}),
			}},
		}...)
	}
	plain, out := frame{keys: keys}, outFrame{keys: keys, pool: &buffers.Pool{}}
	for round := range uint64(2) { // the second uses the buffer of the first
		want := &queuepb.SessionResponse{Pong: round, GoingAway: &queuepb.GoingAway{Message: "soon"}}
		sizes := 0
		for i, e := range events {
			r := plain.result(e.kind, uint64(i)*100, i%2 == 0, e.body)
			want.Results = append(want.Results, r)
			size := out.add(e.kind, uint64(i)*100, i%2 == 0, e.body)
			if size != r.SizeVT() {
				t.Errorf("%T: add returned %d, the result has %d bytes", e.body, size, r.SizeVT())
			}
			sizes += size
		}
		out.finish(round, want.GoingAway)
		data, err := newCodec(limits{}, out.pool).Marshal(&out)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) != 2*6+1 {
			t.Errorf("the frame is in %d parts", len(data))
		}
		written := data.Len()
		got, again := &queuepb.SessionResponse{}, &queuepb.SessionResponse{}
		if err := pb.Unmarshal(data.Materialize(), got); err != nil {
			t.Fatal(err)
		}
		if err := pb.Unmarshal(mustMarshal(t, want), again); err != nil { // what was set as unknown becomes known
			t.Fatal(err)
		}
		if !pb.Equal(again, got) {
			t.Errorf("round %d (-want +got):\n%s", round, cmp.Diff(again, got, protocmp.Transform()))
		}
		if out.results != len(events) || sizes > written {
			t.Errorf("%d results of %d bytes counted, %d of %d written", out.results, sizes, len(events), written)
		}
		data.Free()
		out.reset()
	}
}

// TestCodec: our codec and the standard one understand each other.
func TestCodec(t *testing.T) {
	c := newCodec(limits{frame: 1 << 20}, &buffers.Pool{})
	if c.Name() != proto.Name {
		t.Errorf("Name() = %q, want %q", c.Name(), proto.Name)
	}
	want := &queuepb.SessionRequest{
		Hello:      &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("id")},
		Operations: []*queuepb.Operation{{Id: 1, Request: &queuepb.Operation_Enqueue{Enqueue: &queuepb.EnqueueRequest{Queue: "q"}}}},
	}
	raw := mustMarshal(t, want)
	got := &queuepb.SessionRequest{}
	// In two buffers, as a message comes that is longer than an HTTP/2 frame.
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw[:5]), mem.SliceBuffer(raw[5:])}, got); err != nil {
		t.Fatal(err)
	}
	clear(raw) // the message has a buffer of its own
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("Unmarshal (-want +got):\n%s", diff)
	}
	stamp := timestamppb.Now() // a message without a generated marshaller
	data, err := c.Marshal(stamp)
	if err != nil {
		t.Fatal(err)
	}
	back := &timestamppb.Timestamp{}
	if err := c.Unmarshal(data, back); err != nil || !pb.Equal(stamp, back) {
		t.Errorf("Unmarshal(Marshal(%v)) = %v, %v", stamp, back, err)
	}
}

// echo is what the broker says about n requests and their answers.
func echo(t testing.TB, n int) (events []broker.Event) {
	body := mustMarshal(t, &queuepb.Message{Payload: make([]byte, 128)})
	replied := mustMarshal(t, &queuepb.Reply{Payload: make([]byte, 128)})
	for i := range n {
		id := uint64(i + 1)
		events = append(events,
			broker.Event{Op: id, Body: &broker.Receipt{Receive: claims(handles.Receive, 1), PipeDeadline: 1}},
			broker.Event{Op: id, Body: &broker.Delivery{
				Queue: "work", Lease: claims(handles.Lease, 1), ReplyTo: claims(handles.Send, 1), Body: body,
				LeaseExpires: 1, EnqueuedAt: 1, Deadline: 1, Attempt: 1,
			}},
			broker.Event{Op: id, Body: &broker.ReplyResult{Outcome: broker.ReplyDelivered, Sequence: 1}},
			broker.Event{Op: id, Body: &broker.ReplyItem{Sequence: 1, Body: replied, Source: broker.MessageID{Slot: 1}, Attempt: 1}},
			broker.Event{Op: id, Body: &broker.End{Reason: broker.EndOK, LastSequence: 1}, Done: true})
	}
	return events
}

// BenchmarkOut is the way out of one request and its answer: receipt, delivery, outcome, reply and end, encoded.
func BenchmarkOut(b *testing.B) {
	const n = 64
	events := echo(b, n)
	f := outFrame{keys: newRing(b), pool: &buffers.Pool{}}
	c := newCodec(limits{}, &buffers.Pool{})
	b.ReportAllocs()
	for i := 0; i < b.N; i += n {
		for i := range events {
			k := kindCall
			if _, ok := events[i].Body.(*broker.Delivery); ok {
				k = kindConsume
			}
			f.add(k, events[i].Op, events[i].Done, events[i].Body)
		}
		data, err := c.Marshal(&f)
		if err != nil {
			b.Fatal(err)
		}
		data.Free()
		f.reset()
	}
}

// BenchmarkIn is the way in of one call: decoded, checked, turned into the broker's request.
func BenchmarkIn(b *testing.B) {
	const n = 64
	request := &queuepb.SessionRequest{}
	for i := range n {
		request.Operations = append(request.Operations, &queuepb.Operation{Id: uint64(i + 1), Request: &queuepb.Operation_Call{
			Call: &queuepb.CallRequest{Queue: "work", Message: &queuepb.Message{Payload: make([]byte, 128)}},
		}})
	}
	benchmarkIn(b, mustMarshal(b, request), n, newRing(b))
}

// BenchmarkInReply is the way in of one reply with ack.
func BenchmarkInReply(b *testing.B) {
	const n = 64
	keys := newRing(b)
	request := &queuepb.SessionRequest{}
	for i := range n {
		request.Operations = append(request.Operations, &queuepb.Operation{Id: uint64(i + 1), Request: &queuepb.Operation_Reply{
			Reply: &queuepb.ReplyRequest{
				Handle: &queuepb.Handle{Token: keys.Mint(claims(handles.Send, 1)).Text()},
				Body:   &queuepb.ReplyRequest_Payload{Payload: make([]byte, 128)},
				Lease:  &queuepb.Handle{Token: keys.Mint(claims(handles.Lease, 1)).Text()}, Ack: true,
			},
		}})
	}
	benchmarkIn(b, mustMarshal(b, request), n, keys)
}

func benchmarkIn(b *testing.B, raw []byte, n int, keys *handles.KeyRing) {
	l := limits{payload: 1 << 20, frame: 4 << 20, pipeTimeout: time.Hour}
	codec := newCodec(l, &buffers.Pool{})
	c := caller{srv: &Server{keys: keys, limits: l}, id: anonymous, now: time.Now()}
	data := mem.BufferSlice{mem.SliceBuffer(raw)}
	b.ReportAllocs()
	var in inFrame
	var decoder requestDecoder
	for i := 0; i < b.N; i += n {
		if err := codec.Unmarshal(data, &in); err != nil {
			b.Fatal(err)
		}
		if err := in.parse(); err != nil {
			b.Fatal(err)
		}
		for i := range in.operations {
			request, _, err := decoder.decode(&in.operations[i])
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.operation(request); err != nil {
				b.Fatal(err)
			}
		}
		in.free()
	}
}
