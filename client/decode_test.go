package client

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

func TestDecodeDelivery(t *testing.T) {
	h := testHandle(t, handles.Receive, 5)
	at := func(n int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(1_800_000_000+n, n)) }
	p := &queuepb.Delivery{
		MessageId: "m", Queue: "q", Lease: &queuepb.Handle{Token: "lease"}, LeaseExpiresAt: at(1), Attempt: 2, Failures: 3,
		Message: &queuepb.Message{
			Payload: []byte("p"), ContentType: "c", Headers: map[string]string{"a": "1", "b": ""},
			ReplyTo: &queuepb.Handle{Token: "reply"},
			Handles: map[string]*queuepb.Handle{"f": {Token: h.Text()}, "newer": {Token: "qh2r_"}},
		},
		EnqueuedAt: at(4), Deadline: at(5), EndedHandles: []string{"x", "y"}, Priority: 7, Group: "g",
	}
	everyFieldSet(t, p)
	everyFieldSet(t, p.GetMessage())
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var d Delivery
	if err := decodeDelivery(b, &d); err != nil {
		t.Fatal(err)
	}
	type fields struct {
		ID, Queue, Lease, ReplyTo, Payload, ContentType, Group string
		Attempt, Failures                                      uint32
		Headers                                                map[string]string
		Handles                                                map[string]handles.Handle
		Ended                                                  []string
		EnqueuedAt, Deadline, LeaseExpiresAt                   time.Time
		Priority                                               int
	}
	got := fields{
		d.MessageID, d.Queue, d.lease, d.replyTo, string(d.Payload), d.ContentType, d.Group, d.Attempt, d.Failures, d.Headers,
		d.Handles, d.EndedHandles, d.EnqueuedAt, d.Deadline, d.LeaseExpiresAt, d.Priority,
	}
	want := fields{
		"m", "q", "lease", "reply", "p", "c", "g", 2, 3, map[string]string{"a": "1", "b": ""},
		map[string]handles.Handle{"f": h}, []string{"x", "y"}, at(4).AsTime(), at(5).AsTime(), at(1).AsTime(), 7,
	}
	if diff := cmp.Diff(want, got, sameHandles); diff != "" {
		t.Error(diff)
	}
	for n := range b { // what is cut off is refused or shorter, never a panic
		_ = decodeDelivery(b[:n], new(Delivery))
	}
}

func TestDecodeReceipt(t *testing.T) {
	full := &queuepb.Receipt{
		MessageId: "m", ReceiveHandle: &queuepb.Handle{Token: testHandle(t, handles.Receive, 5).Text()},
		PipeDeadline: timestamppb.New(time.Unix(1_800_000_000, 7)), Duplicate: true, QueueCreated: true, Consumers: 3,
	}
	everyFieldSet(t, full)
	for _, p := range []*queuepb.Receipt{{}, {MessageId: "m"}, {ReceiveHandle: &queuepb.Handle{}}, full} {
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		want, err := receiptFromWire(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeReceipt(b)
		if diff := cmp.Diff(want, got, sameHandles); err != nil || diff != "" {
			t.Errorf("error %v (-want +got):\n%s", err, diff)
		}
		for n := range b {
			_, _ = decodeReceipt(b[:n])
		}
	}
	b, err := proto.Marshal(&queuepb.Receipt{ReceiveHandle: &queuepb.Handle{Token: "no handle"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeReceipt(b); err == nil {
		t.Error("what is no handle was decoded")
	}
}

func TestDecodeReply(t *testing.T) {
	h := testHandle(t, handles.Receive, 5)
	p := &queuepb.Reply{
		Sequence: 1 << 40, Payload: []byte("p"), ContentType: "c", Headers: map[string]string{"a": "1"},
		Handles: map[string]*queuepb.Handle{"f": {Token: h.Text()}}, SourceMessageId: "m", Attempt: 3, EndedHandles: []string{"f"},
	}
	everyFieldSet(t, p)
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeReply(b)
	want := Reply{
		Sequence: 1 << 40, Payload: []byte("p"), ContentType: "c", Headers: map[string]string{"a": "1"},
		Handles: map[string]handles.Handle{"f": h}, SourceMessageID: "m", Attempt: 3, EndedHandles: []string{"f"},
	}
	if diff := cmp.Diff(want, got, sameHandles); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for n := range b {
		_, _ = decodeReply(b[:n])
	}
}

var sameHandles = cmp.Comparer(func(a, b handles.Handle) bool { return a == b })
