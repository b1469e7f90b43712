package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// session is the client's side of a Session stream, by hand.
type session struct {
	grpc.BidiStreamingClient[queuepb.SessionRequest, queuepb.SessionResponse]
	t      *testing.T
	hello  *queuepb.GetServerInfoResponse
	queued []*queuepb.Result
	away   *queuepb.GoingAway
}

// openSession opens a session; hello may leave the version unset.
func (c *client) openSession(hello *queuepb.Hello, operations ...*queuepb.Operation) *session {
	c.t.Helper()
	stream, err := c.Session(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	s := &session{BidiStreamingClient: stream, t: c.t}
	if hello.ProtocolVersion == 0 {
		hello.ProtocolVersion = 1
	}
	s.write(&queuepb.SessionRequest{Hello: hello, Operations: operations})
	first, err := s.Recv()
	if err != nil || first.Hello == nil {
		c.t.Fatalf("first frame = %v, %v, want hello", first, err)
	}
	s.hello = first.Hello
	return s
}

func (s *session) write(frame *queuepb.SessionRequest) {
	s.t.Helper()
	if err := s.Send(frame); err != nil {
		s.t.Fatal(err)
	}
}

// do sends operations in one frame.
func (s *session) do(operations ...*queuepb.Operation) {
	s.t.Helper()
	s.write(&queuepb.SessionRequest{Operations: operations})
}

// next returns the next result of an operation; those of others stay for later.
func (s *session) next(id uint64) *queuepb.Result {
	s.t.Helper()
	for {
		if i := slices.IndexFunc(s.queued, func(r *queuepb.Result) bool { return r.Id == id }); i >= 0 {
			r := s.queued[i]
			s.queued = slices.Delete(s.queued, i, i+1)
			return r
		}
		s.read()
	}
}

// read reads one frame.
func (s *session) read() *queuepb.SessionResponse {
	s.t.Helper()
	frame, err := s.Recv()
	if err != nil {
		s.t.Fatalf("Session ended with %v, results left: %v", err, s.queued)
	}
	s.queued = append(s.queued, frame.Results...)
	if frame.GoingAway != nil {
		s.away = frame.GoingAway
	}
	return frame
}

// end reads to the end of the stream and returns its status.
func (s *session) end() refusal {
	s.t.Helper()
	for {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return refusal{}
		} else if err != nil {
			return refusalOf(s.t, err, s.Trailer())
		}
	}
}

// The operations that tests use.

func opEnqueue(id uint64, queue string) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_Enqueue{
		Enqueue: &queuepb.EnqueueRequest{Queue: queue, Message: text("x")},
	}}
}

func opCall(id uint64, queue, payload string) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_Call{
		Call: &queuepb.CallRequest{Queue: queue, Message: text(payload)},
	}}
}

func opConsume(id uint64, queue string, n uint32) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_Consume{
		Consume: &queuepb.ConsumeRequest{Queues: []string{queue}, MaxInFlight: n},
	}}
}

func opReply(id uint64, d *queuepb.Delivery, payload string, more bool) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_Reply{Reply: &queuepb.ReplyRequest{
		Handle: d.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{Payload: []byte(payload)}, More: more,
		Lease: d.Lease, Ack: !more,
	}}}
}

// TestSessionRoundTrip does what TestCall does, in sessions.
func TestSessionRoundTrip(t *testing.T) {
	c := newClient(t)
	worker := c.openSession(&queuepb.Hello{ClientName: "test"}, opConsume(1, "work", 100))
	if worker.hello.ProtocolVersion != 1 || worker.hello.Limits.WindowOperations != 8192 || worker.hello.Tenant != "default" {
		t.Errorf("hello = %v, want protocol version, limits and tenant", worker.hello)
	}
	if r := worker.next(1); r.GetConsume().GetStarted() == nil || r.Done {
		t.Fatalf("first result of Consume = %v, want started", r)
	}
	caller := c.openSession(&queuepb.Hello{})
	const n = 50
	var calls []*queuepb.Operation
	for i := range n {
		calls = append(calls, opCall(uint64(i+1), "work", fmt.Sprint(i)))
	}
	caller.do(calls...)
	for i := range n {
		d := worker.next(1).GetConsume().GetDelivery()
		if got, want := string(d.GetMessage().GetPayload()), fmt.Sprint(i); got != want {
			t.Fatalf("delivery %d has payload %q, want %q", i, got, want)
		}
		worker.do(opReply(uint64(10+i), d, "re:"+string(d.Message.Payload), false))
	}
	for i := range n {
		r := worker.next(uint64(10 + i))
		if r.GetReply().GetResult().GetOutcome() != queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED || !r.Done {
			t.Errorf("reply %d = %v, want DELIVERED and done", i, r)
		}
		id := uint64(i + 1)
		if r := caller.next(id); r.GetCall().GetReceipt().GetReceiveHandle() == nil || r.Done {
			t.Errorf("call %d begins with %v, want a receipt", i, r)
		}
		if r := caller.next(id); string(r.GetCall().GetReply().GetPayload()) != "re:"+fmt.Sprint(i) {
			t.Errorf("call %d goes on with %v, want the reply", i, r)
		}
		if r := caller.next(id); r.GetCall().GetEnd().GetReason() != queuepb.EndReason_END_REASON_OK || !r.Done {
			t.Errorf("call %d ends with %v, want OK and done", i, r)
		}
	}
	for _, s := range []*session{caller, worker} {
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got := s.end(); got != (refusal{}) {
			t.Errorf("status after half-close = %v, want OK", got)
		}
	}
}

// TestSessionOperations: an operation of each kind that has one result, and errors that end only their operation.
func TestSessionOperations(t *testing.T) {
	c := newClient(t)
	s := c.openSession(&queuepb.Hello{},
		opEnqueue(1, "a"),
		&queuepb.Operation{Id: 2, Request: &queuepb.Operation_OpenPipe{OpenPipe: &queuepb.OpenPipeRequest{}}},
		&queuepb.Operation{Id: 3, Request: &queuepb.Operation_GetServerInfo{}},
		&queuepb.Operation{Id: 4},
		opEnqueue(5, "NO"),
		&queuepb.Operation{Id: 6, Request: &queuepb.Operation_EnqueueBatch{EnqueueBatch: &queuepb.EnqueueBatchRequest{
			Items: []*queuepb.EnqueueRequest{{Queue: "a"}, {Queue: ".a"}, {Queue: "b", Pipe: &queuepb.PipeOptions{}}},
		}}},
		&queuepb.Operation{Id: 7, Request: &queuepb.Operation_EnqueueBatch{EnqueueBatch: &queuepb.EnqueueBatchRequest{}}},
		&queuepb.Operation{Id: 8, Request: &queuepb.Operation_StopConsuming{
			StopConsuming: &queuepb.StopConsumingRequest{ConsumerId: "nobody"},
		}},
	)
	if r := s.next(1); r.GetEnqueue().GetReceipt().GetMessageId() == "" || !r.Done {
		t.Errorf("enqueue = %v, want a receipt", r)
	}
	pipe := s.next(2).GetOpenPipe()
	if pipe.GetSendHandle().GetToken() == "" || pipe.GetReceiveHandle().GetToken() == "" {
		t.Errorf("open_pipe = %v, want two handles", pipe)
	}
	if r := s.next(3); r.GetGetServerInfo().GetBootEpoch() == "" {
		t.Errorf("get_server_info = %v, want a boot epoch", r)
	}
	for id, want := range map[uint64]refusal{
		4: {codes.InvalidArgument, "OP_MISSING", "request"},
		5: {codes.InvalidArgument, "QUEUE_NAME_INVALID", "queue"},
		7: {codes.InvalidArgument, "BATCH_EMPTY", "items"},
		8: {codes.NotFound, "CONSUMER_UNKNOWN", ""},
	} {
		r := s.next(id)
		e := r.GetError()
		if got := (refusal{codes.Code(e.GetCode()), e.GetReason(), e.GetField()}); got.Reason != want.Reason || got.Code != want.Code || !r.Done {
			t.Errorf("operation %d = %v, want %v", id, r, want)
		} else if e.Outcome != queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED || e.Message == "" {
			t.Errorf("operation %d: %v, want a message and NOT_APPLIED", id, e)
		}
	}
	results := s.next(6).GetEnqueueBatch().GetResults()
	if len(results) != 3 || results[0].GetReceipt() == nil || results[1].GetError().GetField() != "items[1].queue" ||
		results[2].GetReceipt().GetReceiveHandle() == nil {
		t.Errorf("enqueue_batch = %v, want receipt, error, receipt with handle", results)
	}

	// Everything else that a pipe has.
	s.do(&queuepb.Operation{Id: 20, Request: &queuepb.Operation_Receive{
		Receive: &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle},
	}})
	if r := s.next(20); r.GetReceive().GetAttached().GetNextSequence() != 1 || r.Done {
		t.Errorf("receive = %v, want attached", r)
	}
	s.do(
		&queuepb.Operation{Id: 21, Request: &queuepb.Operation_Describe{
			Describe: &queuepb.DescribeRequest{Handle: pipe.ReceiveHandle},
		}},
		&queuepb.Operation{Id: 22, Request: &queuepb.Operation_Cancel{
			Cancel: &queuepb.CancelRequest{Handle: pipe.ReceiveHandle},
		}},
	)
	if r := s.next(21); r.GetDescribe().GetReaders() != 1 {
		t.Errorf("describe = %v, want one reader", r)
	}
	if r := s.next(22); !r.GetCancel().GetCancelled() {
		t.Errorf("cancel = %v, want cancelled", r)
	}
	if r := s.next(20); r.GetReceive().GetEnd().GetReason() != queuepb.EndReason_END_REASON_CANCELLED || !r.Done {
		t.Errorf("receive ends with %v, want CANCELLED", r)
	}
}

// TestSessionEnds are the mistakes that end a session.
func TestSessionEnds(t *testing.T) {
	c := newClient(t)
	hello := &queuepb.Hello{ProtocolVersion: 1}
	var window []*queuepb.Operation
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{
		Pipe: &queuepb.PipeOptions{CapacityReplies: 1},
	}))
	for i := range 8200 { // replies that wait for room are unanswered
		window = append(window, &queuepb.Operation{Id: uint64(i + 1), Request: &queuepb.Operation_Reply{
			Reply: &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{}, More: true},
		}})
	}
	for _, test := range []struct {
		name   string
		frames []*queuepb.SessionRequest
		want   refusal
	}{
		{"no hello", []*queuepb.SessionRequest{{Ping: 1}}, refusal{codes.FailedPrecondition, "HELLO_EXPECTED", "hello"}},
		{"two hellos", []*queuepb.SessionRequest{{Hello: hello}, {Hello: hello}},
			refusal{codes.FailedPrecondition, "HELLO_EXPECTED", "hello"}},
		{"version", []*queuepb.SessionRequest{{Hello: &queuepb.Hello{ProtocolVersion: 9}}},
			refusal{codes.FailedPrecondition, "VERSION_UNSUPPORTED", "hello.protocol_version"}},
		{"short session id", []*queuepb.SessionRequest{{Hello: &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("short")}}},
			refusal{codes.InvalidArgument, "SESSION_ID_INVALID", "hello.session_id"}},
		{"long session id", []*queuepb.SessionRequest{{Hello: &queuepb.Hello{ProtocolVersion: 1, SessionId: bytes.Repeat([]byte("x"), 65)}}},
			refusal{codes.InvalidArgument, "SESSION_ID_INVALID", "hello.session_id"}},
		{"little credit", []*queuepb.SessionRequest{{Hello: &queuepb.Hello{ProtocolVersion: 1, CreditBytes: 1000}}},
			refusal{codes.InvalidArgument, "CREDIT_INVALID", "hello.credit_bytes"}},
		{"operation 0", []*queuepb.SessionRequest{{Hello: hello, Operations: []*queuepb.Operation{opEnqueue(0, "a")}}},
			refusal{codes.InvalidArgument, "OP_ID_INVALID", "operations.id"}},
		{"operation twice in a frame", []*queuepb.SessionRequest{
			{Hello: hello, Operations: []*queuepb.Operation{opCall(1, "a", ""), opCall(1, "a", "")}},
		}, refusal{codes.InvalidArgument, "OP_ID_INVALID", "operations.id"}},
		{"operation still under way", []*queuepb.SessionRequest{
			{Hello: hello, Operations: []*queuepb.Operation{opCall(1, "a", "")}},
			{Operations: []*queuepb.Operation{opEnqueue(1, "a")}},
		}, refusal{codes.InvalidArgument, "OP_ID_INVALID", "operations.id"}},
		{"window", []*queuepb.SessionRequest{{Hello: hello}, {Operations: window}},
			refusal{codes.ResourceExhausted, "WINDOW_EXCEEDED", "operations"}},
		{"frame too large", []*queuepb.SessionRequest{{Hello: hello}, {Operations: []*queuepb.Operation{
			{Id: 1, Request: &queuepb.Operation_Enqueue{Enqueue: &queuepb.EnqueueRequest{
				Message: &queuepb.Message{Payload: make([]byte, 5<<20)},
			}}},
		}}}, refusal{codes.InvalidArgument, "FRAME_TOO_LARGE", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream, err := c.Session(c.ctx)
			if err != nil {
				t.Fatal(err)
			}
			s := &session{BidiStreamingClient: stream, t: t}
			for _, f := range test.frames {
				_ = s.Send(f) // may fail when the session has ended already; its status tells
			}
			if got := s.end(); got != test.want {
				t.Errorf("status = %v, want %v", got, test.want)
			}
		})
	}
}

// TestSessionComesBack: what is repeated under the same session id has its first outcome, items of batches included.
func TestSessionComesBack(t *testing.T) {
	c := newClient(t)
	hello := func() *queuepb.Hello { return &queuepb.Hello{SessionId: []byte("0123456789abcdef")} }
	ops := []*queuepb.Operation{opEnqueue(1, "a"), {Id: 2, Request: &queuepb.Operation_EnqueueBatch{
		EnqueueBatch: &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{{Queue: "a"}, {Queue: "a"}}},
	}}}
	ids := func(s *session) []string {
		all := []string{s.next(1).GetEnqueue().GetReceipt().GetMessageId()}
		for _, r := range s.next(2).GetEnqueueBatch().GetResults() {
			all = append(all, r.GetReceipt().GetMessageId())
		}
		return all
	}
	older := c.openSession(hello(), ops...)
	want := ids(older)
	newer := c.openSession(hello(), ops...)
	if got := ids(newer); !slices.Equal(got, want) || slices.Contains(want, "") {
		t.Errorf("message ids of repeated operations = %v, want the first %v", got, want)
	}
	if got, want := older.end(), (refusal{codes.Aborted, "SESSION_TAKEN_OVER", ""}); got != want {
		t.Errorf("status of the older stream = %v, want %v", got, want)
	}
	newer.do(opEnqueue(3, "a"))
	if r := newer.next(3); r.GetEnqueue() == nil {
		t.Errorf("enqueue in the newer session = %v, want a receipt", r)
	}
}

// TestSessionPing: the pong follows the results of what came before the ping.
func TestSessionPing(t *testing.T) {
	c := newClient(t, testbed.Volatile())
	s := c.openSession(&queuepb.Hello{})
	for ping := range uint64(20) {
		s.write(&queuepb.SessionRequest{Operations: []*queuepb.Operation{
			opEnqueue(3*ping+1, "a"), opEnqueue(3*ping+2, "a"), opEnqueue(3*ping+3, "Bad"),
		}, Ping: ping + 1})
		for pong := uint64(0); pong == 0; {
			pong = s.read().Pong
		}
		if len(s.queued) != 3 {
			t.Fatalf("%d results came before the pong, want 3", len(s.queued))
		}
		s.queued = nil
	}
}

// TestSessionByteCredit: without byte credit deliveries wait, and other results pass them; with more, they come.
func TestSessionByteCredit(t *testing.T) {
	c := newClient(t, testbed.WithServer(smallPayloads))
	s := c.openSession(&queuepb.Hello{CreditBytes: 1024}, opConsume(1, "work", 100))
	s.next(1)
	const n = 8
	for i := range n {
		op := opEnqueue(uint64(2+i), "work")
		op.GetEnqueue().Message.Payload = make([]byte, 1000)
		s.do(op)
	}
	for i := range n { // the receipts are there
		if r := s.next(uint64(2 + i)); r.GetEnqueue() == nil {
			t.Fatalf("enqueue = %v, want a receipt", r)
		}
	}
	s.write(&queuepb.SessionRequest{Ping: 1})
	for pong := uint64(0); pong == 0; {
		pong = s.read().Pong
	}
	if len(s.queued) != 1 {
		t.Fatalf("%d deliveries came on credit for one", len(s.queued))
	}
	for i := range n {
		r := s.next(1)
		if r.GetConsume().GetDelivery() == nil {
			t.Fatalf("result %d = %v, want a delivery", i, r)
		}
		s.write(&queuepb.SessionRequest{Credits: []*queuepb.Credit{{Bytes: uint64(r.SizeVT())}}})
	}
}

// TestSessionItemCredit: replies stop at the operation's credit.
func TestSessionItemCredit(t *testing.T) {
	c := newClient(t)
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	for i := range 5 {
		must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
			Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{Payload: []byte{byte(i)}}, More: i < 4,
		}))
	}
	s := c.openSession(&queuepb.Hello{}, &queuepb.Operation{Id: 1, Credit: 2, Request: &queuepb.Operation_Receive{
		Receive: &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle},
	}})
	count := func() int {
		s.write(&queuepb.SessionRequest{Ping: 1})
		for pong := uint64(0); pong == 0; {
			pong = s.read().Pong
		}
		return len(s.queued)
	}
	if got := count(); got != 3 {
		t.Errorf("%d results with credit for two replies, want attached and two", got)
	}
	s.write(&queuepb.SessionRequest{Credits: []*queuepb.Credit{{OperationId: 1, Items: 10}}})
	if got := count(); got != 7 {
		t.Errorf("%d results with more credit, want all five replies and the end", got)
	}
}

// TestSessionDetach: deliveries of a consumer that is left go elsewhere; nothing more comes with its id.
func TestSessionDetach(t *testing.T) {
	c := newClient(t)
	s := c.openSession(&queuepb.Hello{}, opConsume(1, "work", 10))
	s.next(1)
	s.do(opEnqueue(2, "work"))
	first := s.next(1).GetConsume().GetDelivery()
	s.write(&queuepb.SessionRequest{Operations: []*queuepb.Operation{opConsume(3, "work", 10)}, Detach: []uint64{1}})
	s.next(3)
	if again := s.next(3).GetConsume().GetDelivery(); again.GetMessageId() != first.GetMessageId() || again.Attempt != 2 {
		t.Errorf("delivery after detach = %v, want the message again, attempt 2", again)
	}
}
