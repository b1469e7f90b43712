package server

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/buffers"
)

// decoded are operations of the kinds that are decoded by hand, with and without what that leaves to the generated code.
func decoded() []*queuepb.Operation {
	message := &queuepb.Message{Payload: []byte("payload"), ContentType: "text/plain"}
	withReplyTo := &queuepb.Message{Payload: make([]byte, 300), ReplyTo: &queuepb.Handle{Token: "token"}}
	pipe := &queuepb.PipeOptions{Timeout: &durationpb.Duration{Seconds: 5, Nanos: 7}}
	call := func(r *queuepb.CallRequest) *queuepb.Operation {
		return &queuepb.Operation{Id: 300, Credit: 5, Request: &queuepb.Operation_Call{Call: r}}
	}
	enqueue := func(r *queuepb.EnqueueRequest) *queuepb.Operation {
		return &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Enqueue{Enqueue: r}}
	}
	reply := func(r *queuepb.ReplyRequest) *queuepb.Operation {
		return &queuepb.Operation{Id: 2, Request: &queuepb.Operation_Reply{Reply: r}}
	}
	settle := func(r *queuepb.SettleRequest) *queuepb.Operation {
		return &queuepb.Operation{Id: 3, Patient: true, Request: &queuepb.Operation_Settle{Settle: r}}
	}
	handle, lease := &queuepb.Handle{Token: "handle"}, &queuepb.Handle{Token: "lease"}
	payload := &queuepb.ReplyRequest_Payload{Payload: []byte("answer")}
	timed := reply(&queuepb.ReplyRequest{Handle: handle, Body: payload})
	timed.Timeout = durationpb.New(time.Second)
	return []*queuepb.Operation{
		{},
		{Id: 1},
		timed,
		call(&queuepb.CallRequest{}),
		call(&queuepb.CallRequest{Queue: "q", Message: message, Pipe: pipe}),
		call(&queuepb.CallRequest{Queue: "q", Message: &queuepb.Message{}, Pipe: &queuepb.PipeOptions{}}),
		call(&queuepb.CallRequest{Queue: "q", Pipe: &queuepb.PipeOptions{Timeout: &durationpb.Duration{}}}),
		call(&queuepb.CallRequest{Queue: "q", Pipe: &queuepb.PipeOptions{Timeout: durationpb.New(-time.Second), CapacityReplies: 1}}),
		call(&queuepb.CallRequest{Queue: "q", Message: message, FromSequence: 2}),
		call(&queuepb.CallRequest{Queue: "q", Message: message, IdempotencyKey: "k", Priority: 9}),
		enqueue(&queuepb.EnqueueRequest{Queue: "q", Message: withReplyTo}),
		enqueue(&queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{Headers: map[string]string{"a": "1"}}}),
		enqueue(&queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{ReplyTo: &queuepb.Handle{}}}),
		reply(&queuepb.ReplyRequest{}),
		reply(&queuepb.ReplyRequest{Handle: handle, Body: payload, More: true, Lease: lease, Ack: true, ContentType: "x"}),
		reply(&queuepb.ReplyRequest{Handle: handle, Body: payload, ReplyId: "id", Headers: map[string]string{"a": "1"}}),
		reply(&queuepb.ReplyRequest{Handle: handle, Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{Code: 5}}}),
		reply(&queuepb.ReplyRequest{Handle: handle, Body: &queuepb.ReplyRequest_Splice{Splice: lease}}),
		settle(&queuepb.SettleRequest{}),
		settle(&queuepb.SettleRequest{Lease: lease, Action: queuepb.SettleAction_SETTLE_ACTION_RELEASE}),
		settle(&queuepb.SettleRequest{Lease: lease, Action: 77}),
		settle(&queuepb.SettleRequest{Lease: lease, Reason: "why", KeepHandles: true}),
		{Id: 4, Request: &queuepb.Operation_Cancel{Cancel: &queuepb.CancelRequest{Handle: handle, Message: "m"}}},
	}
}

// checkDecode compares what is decoded by hand with what the generated code decodes.
func checkDecode(t *testing.T, d *requestDecoder, raw []byte) {
	t.Helper()
	want := &queuepb.Operation{}
	wantErr := want.UnmarshalVT(raw)
	var o inOperation
	err := o.parse(raw)
	var request any
	var timeout *durationpb.Duration
	if err == nil {
		d.scan = newScan(len(raw), 1)
		request, timeout, err = d.decode(&o)
	}
	if refused := (*broker.Error)(nil); errors.As(err, &refused) && refused.Reason != reasonFrameMalformed {
		return // well-formed, and over a bound
	}
	if err != nil && wantErr == nil && pb.Unmarshal(raw, &queuepb.Operation{}) != nil {
		return // the generated code takes numbers of more than 64 bits, the standard decoder does not either
	}
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%x: error %v, the generated code says %v", raw, err, wantErr)
	}
	if err != nil {
		return
	}
	got := &queuepb.Operation{Id: o.id, Credit: o.credit, Timeout: timeout, Patient: o.patient}
	switch request {
	case any(&d.call):
		got.Request = &d.call
	case any(&d.enqueue):
		got.Request = &d.enqueue
	case any(&d.reply):
		got.Request = &d.reply
	case any(&d.settle):
		got.Request = &d.settle
	default:
		want.Request = nil // went the generated way
	}
	want.ProtoReflect().SetUnknown(nil)
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreEmptyMessages()); diff != "" {
		t.Errorf("%x (-want +got):\n%s", raw, diff)
	}
}

// TestDecode: operations are decoded by hand as the generated code would, whatever was decoded before.
func TestDecode(t *testing.T) {
	var d requestDecoder
	byHand := 0
	for range 2 {
		for _, first := range decoded() {
			raw := mustMarshal(t, first)
			checkDecode(t, &d, raw)
			for _, second := range decoded() { // as a sender may write it: fields again, which adds to them
				checkDecode(t, &d, append(mustMarshal(t, second), raw...))
			}
			for i := range raw {
				checkDecode(t, &d, raw[:i])
			}
			var o inOperation
			if err := o.parse(raw); err != nil {
				t.Fatal(err)
			}
			if o.request != nil && (d.decodeCall(o.request) && o.kind == kindCall || d.decodeReply(o.request) && o.kind == kindReply ||
				d.decodeSettle(o.request) && o.kind == kindSettle) {
				byHand++
			}
		}
	}
	if byHand < 14 {
		t.Errorf("%d operations were decoded by hand", byHand)
	}
}

// TestDecodeBatch: a batch is decoded item by item as the generated code would, or by that.
func TestDecodeBatch(t *testing.T) {
	message := &queuepb.Message{Payload: []byte("payload"), ContentType: "text/plain"}
	withReplyTo := &queuepb.Message{ReplyTo: &queuepb.Handle{Token: "token"}}
	plain := []*queuepb.EnqueueRequest{
		{Queue: "a", Message: message}, {}, {Queue: "b", Message: withReplyTo}, {Queue: "c"},
		{Queue: "d", Message: message, Pipe: &queuepb.PipeOptions{Timeout: durationpb.New(time.Minute)}}, {Queue: "e", Message: &queuepb.Message{}},
	}
	for _, test := range []struct {
		name  string
		items []*queuepb.EnqueueRequest
		plain bool
	}{
		{"plain", plain, true},
		{"none", nil, true},
		{"a group", append(slices.Clone(plain), &queuepb.EnqueueRequest{Group: "g"}), false},
		{"too many", slices.Repeat(plain[:1], maxBatchItems+1), false},
	} {
		raw := mustMarshal(t, &queuepb.Operation{Id: 1, Request: &queuepb.Operation_EnqueueBatch{
			EnqueueBatch: &queuepb.EnqueueBatchRequest{Items: test.items}}})
		var o inOperation
		if err := o.parse(raw); err != nil {
			t.Fatal(err)
		}
		d := requestDecoder{scan: newScan(len(raw), 1)}
		d.scan.maxHeap += scanHeapOperation * len(test.items)
		request, _, err := d.decode(&o)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		b, ok := request.(*plainBatch)
		if ok != test.plain {
			t.Errorf("%s: plain: %v, want %v", test.name, ok, test.plain)
		}
		if !ok {
			continue
		}
		rest := b.raw
		for i := range b.items {
			var item *queuepb.EnqueueRequest
			item, rest = d.nextItem(rest)
			if diff := cmp.Diff(test.items[i], item, protocmp.Transform(), protocmp.IgnoreEmptyMessages()); diff != "" {
				t.Errorf("%s: item %d (-want +got):\n%s", test.name, i, diff)
			}
		}
		if b.items != len(test.items) || len(rest) > 0 {
			t.Errorf("%s: %d items, want %d; %d bytes left", test.name, b.items, len(test.items), len(rest))
		}
	}
}

// TestKeptContent: the content of a large operation is kept as it came if nothing has to be changed about it, and copied
// otherwise; either way it is the same.
func TestKeptContent(t *testing.T) {
	payload := bytes.Repeat([]byte("p"), 100_000)
	token := newRing(t)
	send, lease := token.Mint(claims(handles.Send, 1)).Text(), token.Mint(claims(handles.Lease, 1)).Text()
	message := &queuepb.Message{Payload: payload, ContentType: "x"}
	call := func(m *queuepb.Message) *queuepb.Operation {
		return &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Call{Call: &queuepb.CallRequest{Queue: "q", Message: m}}}
	}
	reply := func(r *queuepb.ReplyRequest) *queuepb.Operation {
		r.Handle, r.Lease = &queuepb.Handle{Token: send}, &queuepb.Handle{Token: lease}
		r.Body = &queuepb.ReplyRequest_Payload{Payload: payload}
		return &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Reply{Reply: r}}
	}
	twice := &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Enqueue{Enqueue: &queuepb.EnqueueRequest{
		Queue: "q", Message: &queuepb.Message{Payload: []byte("first")}}}}
	twice.GetEnqueue().Message.ProtoReflect().SetUnknown(mustMarshal(t, &queuepb.Message{Payload: payload}))
	l := limits{payload: 1 << 20, frame: 4 << 20, pipeTimeout: time.Hour}
	for _, test := range []struct {
		name string
		op   *queuepb.Operation
		more *queuepb.Operation // in the same frame
		kept bool
	}{
		{name: "message", op: call(message), kept: true},
		{name: "message with a reply_to", op: &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Enqueue{Enqueue: &queuepb.EnqueueRequest{
			Queue: "q", Message: &queuepb.Message{Payload: payload, ReplyTo: &queuepb.Handle{Token: send}}}}}},
		{name: "message with headers", op: call(&queuepb.Message{Payload: payload, Headers: map[string]string{"a": "b"}})},
		{name: "payload twice", op: twice},
		{name: "message with a tag of two bytes", op: longTag(call(&queuepb.Message{}).GetCall(), payload)},
		{name: "reply", op: reply(&queuepb.ReplyRequest{}), kept: true},
		{name: "reply with a content type", op: reply(&queuepb.ReplyRequest{ContentType: "x"})},
		{name: "reply with an id", op: reply(&queuepb.ReplyRequest{ReplyId: "id"})},
		{name: "half of the frame", op: call(message), more: call(message)},
		{name: "little", op: call(&queuepb.Message{Payload: payload[:1000]})},
	} {
		frame := &queuepb.SessionRequest{Operations: []*queuepb.Operation{test.op}, Ping: 1}
		if test.more != nil {
			frame.Operations = append(frame.Operations, test.more)
		}
		raw := mustMarshal(t, frame)
		contents := func(data mem.BufferSlice) (body, buffer []byte) {
			var in inFrame
			if err := newCodec(l, &buffers.Pool{}).Unmarshal(data, &in); err != nil {
				t.Fatal(err)
			}
			if err := in.parse(); err != nil {
				t.Fatal(err)
			}
			c := caller{srv: &Server{keys: token, limits: l}, id: anonymous, now: time.Now()}
			d := requestDecoder{scan: in.scan, large: in.large()}
			request, _, err := d.decode(&in.operations[0])
			if err != nil {
				t.Fatal(err)
			}
			c.content = d.content
			op, refused := c.operation(request)
			if refused != nil {
				t.Fatalf("%s: %v", test.name, refused)
			}
			switch r := op.request.(type) {
			case *broker.Enqueue:
				body = r.Body
			case *broker.Reply:
				body = r.Body
			}
			return body, in.buf.ReadOnlyData()
		}
		body, buffer := contents(mem.BufferSlice{mem.SliceBuffer(raw[:20_000%len(raw)]), mem.SliceBuffer(raw[20_000%len(raw):])})
		kept := len(body) > 0 && overlap(body, buffer)
		if kept != test.kept {
			t.Errorf("%s: kept in the frame: %v, want %v", test.name, kept, test.kept)
		}
		frame.Operations[0].Timeout = durationpb.New(time.Second) // so it goes the generated way
		if want, _ := contents(mem.BufferSlice{mem.SliceBuffer(mustMarshal(t, frame))}); !bytes.Equal(body, want) {
			t.Errorf("%s: content of %d bytes, want %d", test.name, len(body), len(want))
		}
	}
}

// longTag is a call whose payload has a tag that is longer than need be.
func longTag(r *queuepb.CallRequest, payload []byte) *queuepb.Operation {
	r.Message.ProtoReflect().SetUnknown(append(protowire.AppendVarint([]byte{1<<3 | 2 | 0x80, 0}, uint64(len(payload))), payload...))
	return &queuepb.Operation{Id: 1, Request: &queuepb.Operation_Call{Call: r}}
}

// overlap reports whether a part of whole is at part.
func overlap(part, whole []byte) bool {
	for i := range whole {
		if &whole[i] == &part[0] {
			return true
		}
	}
	return false
}

// FuzzDecode does it with anything.
func FuzzDecode(f *testing.F) {
	for _, o := range decoded() {
		raw, err := pb.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d requestDecoder
		checkDecode(t, &d, raw)
	})
}

// TestFrameBounds: a frame of many small parts is refused before it takes much memory, and what it took is not kept.
func TestFrameBounds(t *testing.T) {
	for _, test := range []struct {
		name string
		part []byte // of the frame
		most int    // as many are taken
		want broker.Reason
	}{
		{"operations", []byte{2<<3 | 2, 0}, maxWindow, reasonTooManyElements},
		{"small credits", []byte{3<<3 | 2, 0}, 1365, reasonTooManyElements},
		{"credits", []byte{3<<3 | 2, 6, 1 << 3, 0, 2 << 3, 0, 3 << 3, 0}, maxElements, reasonTooManyElements},
		{"detach", []byte{4 << 3, 1}, maxElements, reasonTooManyElements},
	} {
		in := &inFrame{buf: mem.SliceBuffer(bytes.Repeat(test.part, test.most))}
		if err := in.parse(); err != nil {
			t.Errorf("%d %s: %v", test.most, test.name, err)
		}
		if in.free(); cap(in.operations)+cap(in.credits)+cap(in.detach) > 0 {
			t.Errorf("room for %d %s is kept", test.most, test.name)
		}
		in = &inFrame{buf: mem.SliceBuffer(bytes.Repeat(test.part, 2_000_000))}
		var refused *broker.Error
		if err := in.parse(); !errors.As(err, &refused) || refused.Reason != test.want {
			t.Errorf("two million %s: %v, want %s", test.name, err, test.want)
		}
		if n := len(in.operations) + len(in.credits) + len(in.detach); n > maxElements+1 {
			t.Errorf("%d %s were taken", n, test.name)
		}
	}
	packed := append(protowire.AppendVarint([]byte{4<<3 | 2}, 2_000_000), make([]byte, 2_000_000)...)
	in := &inFrame{buf: mem.SliceBuffer(packed)}
	if err := in.parse(); err == nil || len(in.detach) > maxElements {
		t.Errorf("two million packed: %v, %d were taken", err, len(in.detach))
	}
}

// TestParseFrame: a frame is taken apart as the generated code would.
func TestParseFrame(t *testing.T) {
	request := &queuepb.SessionRequest{
		Hello:         &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("id")},
		Operations:    decoded(),
		Credits:       []*queuepb.Credit{{OperationId: 1, Items: 2}, {Bytes: 3}},
		Detach:        []uint64{1, 300, 70_000},
		AnsweredBelow: 4, Ping: 5, ResultsReceived: 6,
	}
	raw := mustMarshal(t, request)
	raw = append(raw, 4<<3, 9) // an element that is not packed
	raw = append(raw, 9<<3, 1) // a field of a later version
	c := newCodec(limits{frame: 1 << 20}, &buffers.Pool{})
	in := &inFrame{}
	for range 2 {
		// In two buffers, as a message comes that is longer than an HTTP/2 frame.
		if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw[:5]), mem.SliceBuffer(raw[5:])}, in); err != nil {
			t.Fatal(err)
		}
		if err := in.parse(); err != nil {
			t.Fatal(err)
		}
		got := &queuepb.SessionRequest{
			Hello: in.hello, Detach: in.detach, AnsweredBelow: in.answeredBelow, Ping: in.ping, ResultsReceived: in.resultsReceived,
		}
		for i := range in.operations {
			o := &queuepb.Operation{}
			if err := pb.Unmarshal(in.operations[i].raw, o); err != nil {
				t.Fatal(err)
			}
			got.Operations = append(got.Operations, o)
		}
		for i := range in.credits {
			c := &in.credits[i]
			got.Credits = append(got.Credits, &queuepb.Credit{OperationId: c.operation, Items: c.items, Bytes: c.bytes})
		}
		want := pb.CloneOf(request)
		want.Detach = append(want.Detach, 9)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		in.free()
	}
	for _, bad := range [][]byte{{1 << 3, 1}, {2<<3 | 2, 5}, {5<<3 | 2, 0}, {4<<3 | 2, 1, 0x80}, {0}, {2<<3 | 2, 2, 1<<3 | 2, 0}} {
		in := &inFrame{buf: mem.SliceBuffer(bad)}
		err := in.parse()
		for i := range in.operations {
			if err == nil {
				_, _, err = (&requestDecoder{scan: in.scan}).decode(&in.operations[i])
			}
		}
		if err == nil {
			t.Errorf("%x was taken for a frame", bad)
		}
	}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(make([]byte, 1<<20+1))}, in); err != nil || !in.tooLarge {
		t.Errorf("a frame over the limit: error %v, tooLarge %t", err, in.tooLarge)
	}
}
