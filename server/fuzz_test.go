package server

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/testing/protocmp"

	pb "google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/badinput"
	"github.com/replyq/replyq/internal/buffers"
)

// What a stranger's bytes go through before the broker sees them, fuzzed. The seeds are the catalogue of bad requests.

// fuzzKeys is a file of keys, the same in each process, so that handles among the seeds are genuine in all of them.
const fuzzKeys = "0 mint 2024-01-01T00:00:00Z 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// newFuzzed makes a server that listens nowhere, and the catalogue.
func newFuzzed(f *testing.F) (*caller, []badinput.Row) {
	f.Helper()
	ring, err := handles.ParseKeys("fuzz", []byte(fuzzKeys))
	if err != nil {
		f.Fatal(err)
	}
	b, err := broker.Open(broker.Config{})
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{Broker: b, Keys: ring})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := b.Close(); err != nil {
			f.Error(err)
		}
	})
	return &caller{srv: s, tenure: s.placed.Load().tenure, id: anonymous, now: time.Now()}, badinput.Rows(badinput.Sample(ring))
}

// documentedReasons are those of docs/errors.md.
func documentedReasons(f *testing.F) map[broker.Reason]bool {
	f.Helper()
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		f.Fatal(err)
	}
	all := make(map[broker.Reason]bool)
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z_]+) \|`).FindAllStringSubmatch(string(text), -1) {
		all[broker.Reason(m[1])] = true
	}
	return all
}

// checkRefusal wants a documented reason, words, and nothing that could harm a log or a trailer.
func checkRefusal(t *testing.T, documented map[broker.Reason]bool, err *broker.Error) {
	t.Helper()
	if !documented[err.Reason] || err.Code == 0 || err.Text == "" {
		t.Errorf("refused with %d %q %q, which docs/errors.md does not have", err.Code, err.Reason, err.Text)
	}
	for _, said := range []string{err.Text, err.Field} {
		if !utf8.ValidString(said) || strings.ContainsAny(said, "\x00\r\n") || strings.Contains(said, "qh1s_") || len(said) > 400 {
			t.Errorf("refused with %q", said)
		}
	}
	if st, trailers, known := toStatus(err); !known || trailerSize(st, trailers) > maxTrailers {
		t.Errorf("%v makes %d bytes of trailers", err, trailerSize(st, trailers))
	}
}

// FuzzOperation: whatever an operation is, it is refused with a documented reason, or it is one for the broker. That goes
// for all requests: sessions and plain RPCs have this in common.
func FuzzOperation(f *testing.F) {
	c, rows := newFuzzed(f)
	documented := documentedReasons(f)
	for _, r := range rows {
		if operation, ok := badinput.Operation(1, r.Method, r.Request); ok && len(operation) < 1000 {
			f.Add(operation)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var o inOperation
		if o.parse(raw) != nil {
			return // as FuzzDecode has it
		}
		var d requestDecoder
		request, timeout, err := d.decode(&o)
		if err != nil {
			return
		}
		var refused *broker.Error
		if b, ok := request.(*queuepb.Operation_EnqueueBatch); ok {
			for _, item := range b.EnqueueBatch.GetItems() {
				if _, err := c.enqueueWithPipe(item); err != nil {
					checkRefusal(t, documented, err)
				}
			}
			return
		}
		op, refused := c.operation(request)
		if refused == nil && op.kind == kindReply {
			_, refused = replyTimeout(timeout)
		}
		switch {
		case refused != nil:
			checkRefusal(t, documented, refused)
		case op.answer == nil && op.request == nil:
			t.Errorf("%T is neither refused nor answered nor for the broker", request)
		}
	})
}

// FuzzEnqueue: what is stored of a message is what its producer sent, or it is refused.
func FuzzEnqueue(f *testing.F) {
	c, rows := newFuzzed(f)
	documented := documentedReasons(f)
	for _, r := range rows {
		if r.Method == queuepb.QueueService_Enqueue_FullMethodName && len(r.Request) < 1000 {
			f.Add(r.Request)
		}
	}
	codec := newCodec(c.srv.limits, &buffers.Pool{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		request := &queuepb.EnqueueRequest{}
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(bytes.Clone(raw))}, request); err != nil {
			t.Fatalf("the codec fails: gRPC would answer for us: %v", err)
		}
		if err := c.srv.limits.frameError(request); err != nil {
			refused, ok := err.(*broker.Error) //nolint:errorlint // it is not wrapped
			if !ok {
				t.Fatalf("%T is no refusal", err)
			}
			checkRefusal(t, documented, refused)
			return
		}
		want := &queuepb.EnqueueRequest{}
		if err := pb.Unmarshal(raw, want); err != nil && !strings.Contains(err.Error(), "UTF-8") {
			t.Fatalf("the codec takes what is malformed: %v", err)
		}
		out, refused := c.enqueueWithPipe(request)
		if refused != nil {
			checkRefusal(t, documented, refused)
			return
		}
		stored := &queuepb.Message{}
		if err := pb.Unmarshal(out.Body, stored); err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
		sent := want.Message
		if sent == nil {
			sent = &queuepb.Message{}
		}
		if diff := cmp.Diff(sent, stored, protocmp.Transform(), protocmp.IgnoreUnknown()); diff != "" {
			t.Errorf("stored (-sent +stored):\n%s", diff)
		}
	})
}

// FuzzFrame: a frame is taken apart as the generated code would, or refused with a documented reason.
func FuzzFrame(f *testing.F) {
	_, rows := newFuzzed(f)
	documented := documentedReasons(f)
	for _, r := range rows {
		if operation, ok := badinput.Operation(7, r.Method, r.Request); ok && len(operation) < 1000 {
			frame, err := pb.Marshal(&queuepb.SessionRequest{Ping: 1, Detach: []uint64{1, 2}, Credits: []*queuepb.Credit{{Bytes: 1}}})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(append(append(frame, 2<<3|2, byte(len(operation)&0x7f|0x80), byte(len(operation)>>7)), operation...))
		}
	}
	f.Add([]byte{1<<3 | 2, 2, 1 << 3, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := &inFrame{buf: mem.SliceBuffer(raw)}
		err := in.parse()
		if err != nil {
			refused, ok := err.(*broker.Error) //nolint:errorlint // it is not wrapped
			if !ok {
				t.Fatalf("%T is no refusal", err)
			}
			checkRefusal(t, documented, refused)
			return
		}
		want := &queuepb.SessionRequest{}
		if want.UnmarshalVT(raw) != nil {
			return // an operation is malformed, which is found when it is decoded
		}
		if len(in.operations) != len(want.Operations) || len(in.credits) != len(want.Credits) || len(in.detach) != len(want.Detach) ||
			in.ping != want.Ping || in.answeredBelow != want.AnsweredBelow || in.resultsReceived != want.ResultsReceived ||
			(in.hello != nil) != (want.Hello != nil) {
			t.Errorf("the frame was taken apart otherwise than %v", want)
		}
		for i := range in.operations {
			if in.operations[i].id != want.Operations[i].Id {
				t.Errorf("operation %d has the id %d, want %d", i, in.operations[i].id, want.Operations[i].Id)
			}
		}
	})
}

// FuzzQueueName: names are what the contract says, and nothing else.
func FuzzQueueName(f *testing.F) {
	_, rows := newFuzzed(f)
	for _, r := range rows {
		request := &queuepb.EnqueueRequest{}
		if r.Method == queuepb.QueueService_Enqueue_FullMethodName && pb.Unmarshal(r.Request, request) == nil {
			f.Add(request.Queue)
		}
	}
	documented := documentedReasons(f)
	valid := regexp.MustCompile(`\A[a-z0-9_-]+(\.[a-z0-9_-]+)*\z`)
	f.Fuzz(func(t *testing.T, name string) {
		err := checkQueue(name, "queue")
		if want := len(name) <= 128 && valid.MatchString(name); (err == nil) != want {
			t.Fatalf("%q: %v, want it taken: %t", name, err, want)
		}
		if err != nil {
			checkRefusal(t, documented, err)
		}
	})
}
