package client

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/replyq/replyq/api/queuepb"
)

// fake is a server that does in each session what a test says: for what the real one cannot be brought to do at a
// chosen moment, such as a cut after a certain frame. Sessions are numbered from 0; the last script serves all further
// ones.
type fake struct {
	queuepb.UnimplementedQueueServiceServer
	t       *testing.T
	scripts []func(*fakeSession) error

	mu       sync.Mutex
	sessions int
}

// fakeSession is one session of a fake.
type fakeSession struct {
	t      *testing.T
	number int
	stream grpc.BidiStreamingServer[queuepb.SessionRequest, queuepb.SessionResponse]
	hello  *queuepb.Hello

	operations    []*queuepb.Operation // read and not taken by op
	credits       []*queuepb.Credit
	detached      []uint64
	answeredBelow uint64
}

// withFake runs a test in fake time with a client of a fake. After the test come scripts, func(*fakeSession) error, and
// options.
func withFake(t *testing.T, test func(t *testing.T, c *Client), scripts ...any) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 20)
		server := grpc.NewServer()
		f := &fake{t: t}
		options := []Option{WithDialOptions(
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))}
		for _, s := range scripts {
			switch s := s.(type) {
			case Option:
				options = append(options, s)
			case func(*fakeSession) error:
				f.scripts = append(f.scripts, s)
			default:
				t.Fatalf("withFake got a %T", s)
			}
		}
		queuepb.RegisterQueueServiceServer(server, f)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		c, err := New("passthrough:///fake", options...)
		if err != nil {
			t.Fatal(err)
		}
		test(t, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func (f *fake) Session(stream grpc.BidiStreamingServer[queuepb.SessionRequest, queuepb.SessionResponse]) error {
	f.mu.Lock()
	s := &fakeSession{t: f.t, number: f.sessions, stream: stream}
	f.sessions++
	f.mu.Unlock()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s.hello = first.GetHello()
	return f.scripts[min(s.number, len(f.scripts)-1)](s)
}

// greet answers the hello.
func (s *fakeSession) greet(epoch string, change ...func(*queuepb.GetServerInfoResponse)) {
	info := &queuepb.GetServerInfoResponse{BootEpoch: epoch, Durability: queuepb.Durability_DURABILITY_MEMORY}
	for _, f := range change {
		f(info)
	}
	s.send(&queuepb.SessionResponse{Hello: info})
}

func (s *fakeSession) send(r *queuepb.SessionResponse) {
	if err := s.stream.Send(r); err != nil {
		s.t.Logf("session %d: send: %v", s.number, err)
	}
}

func (s *fakeSession) results(r ...*queuepb.Result) { s.send(&queuepb.SessionResponse{Results: r}) }

// read reads one frame, false at the end.
func (s *fakeSession) read() bool {
	in, err := s.stream.Recv()
	if err != nil {
		return false
	}
	s.operations = append(s.operations, in.GetOperations()...)
	s.credits = append(s.credits, in.GetCredits()...)
	s.detached = append(s.detached, in.GetDetach()...)
	s.answeredBelow = max(s.answeredBelow, in.GetAnsweredBelow())
	return true
}

// op returns the next operation, nil at the end.
func (s *fakeSession) op() *queuepb.Operation {
	for len(s.operations) == 0 {
		if !s.read() {
			return nil
		}
	}
	op := s.operations[0]
	s.operations = s.operations[1:]
	return op
}

// drain reads until the client leaves.
func (s *fakeSession) drain() error {
	for s.read() {
	}
	return nil
}

// The results a fake sends.

func enqueued(op *queuepb.Operation, id string) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_Enqueue{
		Enqueue: &queuepb.EnqueueResponse{Receipt: &queuepb.Receipt{MessageId: id}}}}
}

func receipt(op *queuepb.Operation, receive string) *queuepb.Result {
	return callResult(op, &queuepb.CallResponse{Event: &queuepb.CallResponse_Receipt{
		Receipt: &queuepb.Receipt{MessageId: "m", ReceiveHandle: &queuepb.Handle{Token: receive}}}})
}

func callReply(op *queuepb.Operation, sequence uint64, payload string) *queuepb.Result {
	return callResult(op, &queuepb.CallResponse{Event: &queuepb.CallResponse_Reply{
		Reply: &queuepb.Reply{Sequence: sequence, Payload: []byte(payload)}}})
}

func callEnd(op *queuepb.Operation) *queuepb.Result {
	r := callResult(op, &queuepb.CallResponse{Event: &queuepb.CallResponse_End{
		End: &queuepb.End{Reason: queuepb.EndReason_END_REASON_OK}}})
	r.Done = true
	return r
}

func callResult(op *queuepb.Operation, event *queuepb.CallResponse) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Response: &queuepb.Result_Call{Call: event}}
}

func received(op *queuepb.Operation, sequence uint64, payload string) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Response: &queuepb.Result_Receive{Receive: &queuepb.ReceiveResponse{
		Event: &queuepb.ReceiveResponse_Reply{Reply: &queuepb.Reply{Sequence: sequence, Payload: []byte(payload)}}}}}
}

func attached(op *queuepb.Operation) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Response: &queuepb.Result_Receive{Receive: &queuepb.ReceiveResponse{
		Event: &queuepb.ReceiveResponse_Attached{Attached: &queuepb.Attached{}}}}}
}

func receiveEnd(op *queuepb.Operation, reason queuepb.EndReason) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_Receive{Receive: &queuepb.ReceiveResponse{
		Event: &queuepb.ReceiveResponse_End{End: &queuepb.End{Reason: reason}}}}}
}

func refusal(op *queuepb.Operation, e *queuepb.Error) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_Error{Error: e}}
}

func started(op *queuepb.Operation) *queuepb.Result {
	return consumeResult(op, &queuepb.ConsumeResponse{Event: &queuepb.ConsumeResponse_Started{
		Started: &queuepb.ConsumeStarted{ConsumerId: op.GetConsume().GetConsumerId()}}})
}

func delivered(op *queuepb.Operation, d *queuepb.Delivery) *queuepb.Result {
	return consumeResult(op, &queuepb.ConsumeResponse{Event: &queuepb.ConsumeResponse_Delivery{Delivery: d}})
}

func consumeResult(op *queuepb.Operation, event *queuepb.ConsumeResponse) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Response: &queuepb.Result_Consume{Consume: event}}
}
