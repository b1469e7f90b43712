package integration_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// A sessionRow is a sequence of frames after which the stream must end.
type sessionRow struct {
	name   string
	hello  *queuepb.Hello // nil: the frames begin the session
	frames [][]byte
	want   badinput.Refusal
}

func sessionRows(t *testing.T, f *badinput.Fixture) []sessionRow {
	refusal := func(code codes.Code, reason, field string) badinput.Refusal {
		return badinput.Refusal{Code: code, Reason: reason, Field: field}
	}
	expected := refusal(codes.FailedPrecondition, "HELLO_EXPECTED", "hello")
	malformed := refusal(codes.InvalidArgument, "FRAME_MALFORMED", "")
	tooLarge := refusal(codes.InvalidArgument, "FRAME_TOO_LARGE", "")
	elements := refusal(codes.InvalidArgument, "TOO_MANY_ELEMENTS", "")
	window := refusal(codes.ResourceExhausted, "WINDOW_EXCEEDED", "operations")
	opID := refusal(codes.InvalidArgument, "OP_ID_INVALID", "operations.id")
	frame := func(r *queuepb.SessionRequest) []byte { return frameOf(t, r) }
	greet := func(name string, h *queuepb.Hello, want badinput.Refusal) sessionRow {
		return sessionRow{name, nil, [][]byte{frame(&queuepb.SessionRequest{Hello: h})}, want}
	}
	after := func(name string, want badinput.Refusal, frames ...[]byte) sessionRow {
		return sessionRow{name, version1(), frames, want}
	}
	receive := &queuepb.Operation{Id: 7, Request: &queuepb.Operation_Receive{Receive: &queuepb.ReceiveRequest{Handle: f.Pipe.Receive}}}
	return []sessionRow{
		{"no frame", nil, nil, expected},
		{"an empty frame first", nil, [][]byte{{}}, expected},
		{"operations first", nil, [][]byte{frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{info(1)}})}, expected},
		{"garbage first", nil, [][]byte{[]byte("\xff\xff\xff\xff")}, malformed},
		{"hello that is garbage", nil, [][]byte{fields(1, []byte("\xff\xff"), 1)}, malformed},
		after("hello again", expected, frame(&queuepb.SessionRequest{Hello: version1()})),
		greet("no version", &queuepb.Hello{}, refusal(codes.FailedPrecondition, "VERSION_UNSUPPORTED", "hello.protocol_version")),
		greet("version 2", &queuepb.Hello{ProtocolVersion: 2}, refusal(codes.FailedPrecondition, "VERSION_UNSUPPORTED", "hello.protocol_version")),
		greet("version 2^32-1", &queuepb.Hello{ProtocolVersion: 1<<32 - 1}, refusal(codes.FailedPrecondition, "VERSION_UNSUPPORTED", "hello.protocol_version")),
		greet("session id of 15 bytes", &queuepb.Hello{ProtocolVersion: 1, SessionId: make([]byte, 15)}, refusal(codes.InvalidArgument, "SESSION_ID_INVALID", "hello.session_id")),
		greet("session id of 65 bytes", &queuepb.Hello{ProtocolVersion: 1, SessionId: make([]byte, 65)}, refusal(codes.InvalidArgument, "SESSION_ID_INVALID", "hello.session_id")),
		greet("credit for less than a message", &queuepb.Hello{ProtocolVersion: 1, CreditBytes: 1<<20 - 1}, refusal(codes.InvalidArgument, "CREDIT_INVALID", "hello.credit_bytes")),

		after("garbage", malformed, []byte("\xff\xff\xff\xff")),
		after("operation that is garbage", malformed, fields(2, []byte("\xff\xff"), 1)),
		after("request that is garbage", malformed, fields(2, append([]byte{1 << 3, 1}, fields(2, []byte("\xff\xff"), 1)...), 1)),
		after("credit that is garbage", malformed, fields(3, []byte("\xff\xff"), 1)),
		after("good operations, then garbage", malformed,
			append(frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{enqueueTo(1, "q"), enqueueTo(2, "q")}}), 0xff)),
		after("frame of 4 MiB and 1", tooLarge, make([]byte, 4<<20+1)),
		after("65,537 credits", elements, fields(3, nil, 1<<16+1)),
		after("65,537 detached", elements, fields(4, make([]byte, 1<<16+1), 1)),
		after("65,537 of both", elements, append(fields(3, nil, 1<<15), fields(4, make([]byte, 1<<15+1), 1)...)),

		after("operation 0", opID, frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{info(0)}})),
		after("operation twice in a frame", opID, frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{receive, receive}})),
		after("operation that is under way", opID,
			frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{receive}}),
			frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{info(7)}})),
		after("good operations, then 0", opID,
			frame(&queuepb.SessionRequest{Operations: []*queuepb.Operation{enqueueTo(1, "q"), enqueueTo(0, "q")}})),
		after("8,193 operations in a frame", window, fields(2, nil, 8193)),
		after("8,193 operations that wait", window,
			parkedReplies(t, f, 1, 4096), parkedReplies(t, f, 4097, 4097)),
	}
}

func enqueueTo(id uint64, queue string) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_Enqueue{Enqueue: &queuepb.EnqueueRequest{Queue: queue}}}
}

// parkedReplies is a frame of replies to a pipe that is full; they wait for room.
func parkedReplies(t *testing.T, f *badinput.Fixture, first, n uint64) []byte {
	t.Helper()
	frame := &queuepb.SessionRequest{}
	for i := range n {
		frame.Operations = append(frame.Operations, &queuepb.Operation{Id: first + i, Request: &queuepb.Operation_Reply{
			Reply: &queuepb.ReplyRequest{Handle: f.FullPipe.Send, Body: &queuepb.ReplyRequest_Payload{}, More: true},
		}})
	}
	return frameOf(t, frame)
}

// What is wrong with a session itself ends its stream with a reason, and no other.
func TestP26BadSession(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	fixture, stop := s.prepare(t)
	other := s.rawSession(s.ctx, t, version1())
	before := s.queues(s.ctx, t)
	for i, row := range sessionRows(t, fixture) {
		t.Run(row.name, func(t *testing.T) {
			raw := s.rawSession(s.ctx, t, row.hello)
			for _, frame := range row.frames {
				raw.send(frame)
			}
			if row.frames == nil {
				if err := raw.stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			if got := raw.end(); got != row.want {
				t.Errorf("the stream has ended with %v, want %v", got, row.want)
			}
			other.do(info(uint64(i + 1)))
			if got := other.result(uint64(i + 1)).GetGetServerInfo(); got == nil {
				t.Error("another session on the connection is not answered")
			}
			s.checkUnchanged(s.ctx, t, before)
			s.checkWorks(s.ctx, t)
		})
	}
	if err := other.stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if got := other.end(); got != (badinput.Refusal{}) {
		t.Errorf("the other session has ended with %v", got)
	}
	stop()
	if err := s.conn.Close(); err != nil {
		t.Error(err)
	}
	s.checkNothingLeft(t, s.flags...)
}

// What is wrong with an operation is in its result, and the session goes on.
func TestP26BadOperations(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	fixture, stop := s.prepare(t)
	defer stop()
	raw := s.rawSession(s.ctx, t, version1())
	before := s.queues(s.ctx, t)
	reply := func(id uint64, timeout *durationpb.Duration) []byte {
		return frameOf(t, &queuepb.SessionRequest{Operations: []*queuepb.Operation{{Id: id, Timeout: timeout, Request: &queuepb.Operation_Reply{
			Reply: &queuepb.ReplyRequest{Handle: fixture.FullPipe.Send, Body: &queuepb.ReplyRequest_Payload{}, More: true},
		}}}})
	}
	batch := &queuepb.Operation{Id: 1 << 54, Request: &queuepb.Operation_EnqueueBatch{
		EnqueueBatch: &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{{Queue: "q"}}},
	}}
	for _, row := range []struct {
		name   string
		id     uint64
		frame  []byte
		code   codes.Code
		reason string
		field  string
	}{
		{"no request", 1, fields(2, []byte{1 << 3, 1}, 1), codes.InvalidArgument, "OP_MISSING", ""},
		{"request of a later version", 2, fields(2, append([]byte{1 << 3, 2}, fields(40, []byte("x"), 1)...), 1), codes.InvalidArgument, "OP_MISSING", ""},
		{"batch with an id of 2^54", 1 << 54, frameOf(t, &queuepb.SessionRequest{Operations: []*queuepb.Operation{batch}}), codes.InvalidArgument, "OP_ID_INVALID", ""},
		{"reply that may not wait", 4, reply(4, &durationpb.Duration{}), codes.ResourceExhausted, "PIPE_FULL", ""},
		{"timeout below 0", 5, reply(5, &durationpb.Duration{Seconds: -1}), codes.InvalidArgument, "DURATION_INVALID", "timeout"},
		{"timeout of mixed signs", 6, reply(6, &durationpb.Duration{Seconds: 1, Nanos: -1}), codes.InvalidArgument, "DURATION_INVALID", "timeout"},
	} {
		t.Run(row.name, func(t *testing.T) {
			raw.send(row.frame)
			result := raw.result(row.id)
			e := result.GetError()
			if got := codes.Code(e.GetCode()); got != row.code || e.GetReason() != row.reason || row.field != "" && e.GetField() != row.field {
				t.Errorf("%v %s %q, want %v %s %q", got, e.GetReason(), e.GetField(), row.code, row.reason, row.field)
			}
			if !result.Done {
				t.Error("the operation is not done")
			}
			s.checkUnchanged(s.ctx, t, before)
		})
	}
	s.checkWorks(s.ctx, t)
}

// A request that stands in an operation twice is taken once, as it stood last; what only a later version knows is left
// out; both are no errors.
func TestOddOperations(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	raw := s.rawSession(s.ctx, t, version1())
	twice := append([]byte{1 << 3, 1}, fields(2, fields(1, []byte("first"), 1), 1)...)
	twice = append(twice, fields(2, fields(1, []byte("last"), 1), 1)...)
	cancelled := append([]byte{1 << 3, 2}, fields(11, fields(1, nil, 1), 1)...) // a Cancel, and then an Enqueue
	cancelled = append(cancelled, fields(2, fields(1, []byte("instead"), 1), 1)...)
	newer := append([]byte{1 << 3, 3}, fields(2, append(fields(1, []byte("newer"), 1), fields(100, []byte(canary), 50)...), 1)...)
	for i, operation := range [][]byte{twice, cancelled, newer} {
		raw.send(fields(2, operation, 1))
		if r := raw.result(uint64(i + 1)); r.GetEnqueue().GetReceipt() == nil {
			t.Errorf("operation %d: %v, want a receipt", i+1, r.GetError())
		}
	}
	var names []string
	for _, q := range s.queues(s.ctx, t) {
		names = append(names, q.Name)
		if q.Statistics.EnqueuedTotal != 1 {
			t.Errorf("%d messages in %s", q.Statistics.EnqueuedTotal, q.Name)
		}
	}
	if want := []string{"instead", "last", "newer"}; !slices.Equal(names, want) {
		t.Errorf("queues %v, want %v", names, want)
	}
	if strings.Contains(s.log.String(), canary) {
		t.Error("what the server does not know is in its log")
	}
}
