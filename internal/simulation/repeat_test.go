package simulation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// TestEveryOperationRepeated sends each operation of a session once to three times, on one stream after the other, as a
// client does that did not see the answer: it has one effect, and always the same answer.
func TestEveryOperationRepeated(t *testing.T) {
	const rounds = 8 // of each operation
	sent := 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			r := newRepeater(t, seed)
			for range rounds {
				r.round()
			}
			r.check(rounds)
			sent += r.sent
		})
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
	t.Logf("operations were sent %d times", sent)
}

// A repeater is a session without a client's library.
type repeater struct {
	t        *testing.T
	rand     *rand.Rand
	bed      *testbed.Bed
	stub     queuepb.QueueServiceClient
	consumer *client.Consumer // somebody else's, whose leases the session settles
	steady   *client.Client

	stream grpc.BidiStreamingClient[queuepb.SessionRequest, queuepb.SessionResponse]
	cut    context.CancelFunc
	id     uint64
	sent   int
	pipes  []*queuepb.OpenPipeResponse
}

func newRepeater(t *testing.T, seed uint64) *repeater {
	r := &repeater{t: t, rand: rand.New(rand.NewPCG(seed, 0)), bed: testbed.New(t, testbed.InMemory(), testbed.WithBroker(shards(1+2*int(seed%2))))}
	conn, err := r.bed.Dial()
	if err != nil {
		t.Fatal(err)
	}
	r.stub = queuepb.NewQueueServiceClient(conn)
	if r.steady, err = client.New(r.bed.Addr, client.WithDialOptions(r.bed.DialOptions()...)); err != nil {
		t.Fatal(err)
	}
	if r.consumer, err = r.steady.Consume(t.Context(), client.ConsumeConfig{MaxInFlight: 10}, "work"); err != nil {
		t.Fatal(err)
	}
	r.connect()
	return r
}

// connect opens a stream in place of the one there is, which is cut or, mostly, not even that.
func (r *repeater) connect() {
	if r.cut != nil && r.rand.IntN(3) == 0 {
		r.cut()
	}
	ctx, cut := context.WithCancel(r.t.Context())
	stream, err := r.stub.Session(ctx)
	if err == nil {
		err = stream.Send(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("one session for all")}})
	}
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.stream, r.cut = stream, cut
}

// do has an operation carried out, and returns its first result.
func (r *repeater) do(op *queuepb.Operation) *queuepb.Result {
	r.id++
	op.Id = r.id
	var first *queuepb.Result
	times := 1 + r.rand.IntN(3)
	for i := range times {
		if i > 0 {
			r.connect()
		}
		r.sent++
		if err := r.stream.Send(&queuepb.SessionRequest{Operations: []*queuepb.Operation{op}}); err != nil {
			r.t.Fatal(err)
		}
		if i < times-1 && r.rand.IntN(2) == 0 {
			if r.rand.IntN(2) == 0 {
				synctest.Wait() // it has been carried out; else it may be under way still
			}
			continue
		}
		result := r.result()
		if first == nil {
			first = result
		}
		if diff := cmp.Diff(plain(first), plain(result), protocmp.Transform()); diff != "" {
			r.t.Errorf("operation %v, time %d of %d: another answer than before (-first +this)\n%s", op, i+1, times, diff)
		}
	}
	return first
}

// plain leaves out of a result what tells that it is not the first.
func plain(r *queuepb.Result) *queuepb.Result {
	r = proto.CloneOf(r)
	receipts := append([]*queuepb.Receipt{r.GetEnqueue().GetReceipt(), r.GetCall().GetReceipt()}, r.GetSettle().GetReceipts()...)
	for _, item := range r.GetEnqueueBatch().GetResults() {
		receipts = append(receipts, item.GetReceipt())
	}
	for _, receipt := range receipts {
		if receipt != nil {
			receipt.Duplicate, receipt.QueueCreated, receipt.Consumers = false, false, 0
		}
	}
	for _, reply := range r.GetSettle().GetReplies() {
		reply.Outcome = 0 // whether somebody waited is not worth remembering
	}
	return r
}

// result reads the next result of the operation that was sent last.
func (r *repeater) result() *queuepb.Result {
	for {
		frame, err := r.stream.Recv()
		if err != nil {
			r.t.Fatal(err)
		}
		for _, result := range frame.GetResults() {
			if result.GetId() == r.id {
				if e := result.GetError(); e != nil {
					r.t.Errorf("operation %d was refused: %v", r.id, e)
				}
				return result
			}
		}
	}
}

func shards(n int) func(*broker.Config) { return func(c *broker.Config) { c.Shards = n } }

// round does one of each operation that has an effect.
func (r *repeater) round() {
	m := func(text string) *queuepb.Message { return &queuepb.Message{Payload: fmt.Append(nil, text, r.id)} }
	enqueue := func(queue string) *queuepb.EnqueueRequest {
		return &queuepb.EnqueueRequest{Queue: queue, Message: m(queue)}
	}
	r.do(&queuepb.Operation{Request: &queuepb.Operation_Enqueue{Enqueue: enqueue("stored")}})
	r.do(&queuepb.Operation{Request: &queuepb.Operation_EnqueueBatch{EnqueueBatch: &queuepb.EnqueueBatchRequest{
		Items: []*queuepb.EnqueueRequest{enqueue("stored"), enqueue("stored"), enqueue("elsewhere")}}}})
	r.do(&queuepb.Operation{Request: &queuepb.Operation_Call{Call: &queuepb.CallRequest{Queue: "called", Message: m("call")}}})

	pipe := r.do(&queuepb.Operation{Request: &queuepb.Operation_OpenPipe{OpenPipe: &queuepb.OpenPipeRequest{}}}).GetOpenPipe()
	r.pipes = append(r.pipes, pipe)
	reply := func(more bool) *queuepb.Operation {
		return &queuepb.Operation{Request: &queuepb.Operation_Reply{Reply: &queuepb.ReplyRequest{
			Handle: pipe.GetSendHandle(), Body: &queuepb.ReplyRequest_Payload{Payload: []byte("reply")}, More: more}}}
	}
	r.do(reply(true))
	r.do(reply(true))
	r.do(reply(false))

	other := r.do(&queuepb.Operation{Request: &queuepb.Operation_OpenPipe{OpenPipe: &queuepb.OpenPipeRequest{}}}).GetOpenPipe()
	cancelled := r.do(&queuepb.Operation{Request: &queuepb.Operation_Cancel{Cancel: &queuepb.CancelRequest{Handle: other.GetReceiveHandle()}}})
	if !cancelled.GetCancel().GetCancelled() {
		r.t.Errorf("Cancel: got %v", cancelled)
	}

	for _, action := range []queuepb.SettleAction{
		queuepb.SettleAction_SETTLE_ACTION_ACK, queuepb.SettleAction_SETTLE_ACTION_REJECT, queuepb.SettleAction_SETTLE_ACTION_RETRY,
	} {
		r.do(&queuepb.Operation{Request: &queuepb.Operation_Enqueue{Enqueue: enqueue("work")}})
		d := r.delivery()
		r.do(&queuepb.Operation{Request: &queuepb.Operation_Settle{Settle: &queuepb.SettleRequest{
			Lease: &queuepb.Handle{Token: d.Lease().Text()}, Action: action, Messages: []*queuepb.EnqueueRequest{enqueue("passed-on")}}}})
	}
	if again := r.delivery(); again.Attempt != 2 {
		r.t.Errorf("after a retry came attempt %d", again.Attempt)
	} else if err := again.Ack(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

func (r *repeater) delivery() *client.Delivery {
	ctx, stop := context.WithTimeout(r.t.Context(), time.Minute)
	defer stop()
	d, err := r.consumer.Next(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// check counts the effects.
func (r *repeater) check(rounds uint64) {
	got := make(map[string][3]uint64)
	for _, q := range r.bed.Broker.QueueStatistics(1, "") {
		got[q.Name] = [3]uint64{q.Enqueued, q.Ready, q.Dead}
	}
	want := map[string][3]uint64{ // enqueued, ready, dead
		"stored": {3 * rounds, 3 * rounds, 0}, "elsewhere": {rounds, rounds, 0}, "called": {rounds, rounds, 0},
		"work": {3 * rounds, 0, rounds}, "passed-on": {3 * rounds, 3 * rounds, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("queues (-want +got)\n%s", diff)
	}
	for _, pipe := range r.pipes {
		described, err := r.stub.Describe(r.t.Context(), &queuepb.DescribeRequest{Handle: pipe.GetReceiveHandle()})
		if err != nil || described.GetNextSequence() != 4 {
			r.t.Errorf("a pipe that got three replies: %v, %v", described, err)
		}
	}
	r.cut()
	if err := r.steady.Close(); err != nil {
		r.t.Error(err)
	}
}
