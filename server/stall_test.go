package server_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/journal"
)

// onDisk runs a test in fake time with a server whose disk it can stop.
func onDisk(t *testing.T, test func(t *testing.T, c *client, d *journal.Faulty)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &journal.Faulty{}
		c := newClient(t, testbed.InMemory(), testbed.WithBroker(func(c *broker.Config) { c.Journal = d.Open }))
		t.Cleanup(d.GoOn)
		test(t, c, d)
	})
}

// outcomeOf is what a plain RPC's error says about whether the request was carried out, and when to repeat it.
func outcomeOf(err error) (outcome string, retry time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			outcome = detail.Metadata["outcome"]
		case *errdetails.RetryInfo:
			retry = detail.RetryDelay.AsDuration()
		}
	}
	return outcome, retry
}

// TestStalledPlainCalls: plain RPCs that wait for the disk end after two seconds, with an unknown outcome; later ones are
// refused at once, and were not carried out; when the disk goes on, all is well, and what was said to be unknown happened once.
func TestStalledPlainCalls(t *testing.T) {
	onDisk(t, func(t *testing.T, c *client, d *journal.Faulty) {
		slow := refusal{codes.Unavailable, "JOURNAL_SLOW", ""}
		calls := map[string]func(*metadata.MD) error{
			"Enqueue": func(trailer *metadata.MD) error {
				_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", IdempotencyKey: "once"}, grpc.Trailer(trailer))
				return err
			},
			"EnqueueBatch": func(trailer *metadata.MD) error {
				_, err := c.EnqueueBatch(c.ctx, &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{{Queue: "b"}}}, grpc.Trailer(trailer))
				return err
			},
			"Call": func(trailer *metadata.MD) error {
				stream, err := c.Call(c.ctx, &queuepb.CallRequest{Queue: "c", IdempotencyKey: "once"})
				if err == nil {
					_, err = stream.Recv()
					*trailer = stream.Trailer()
				}
				return err
			},
			"Consume": func(trailer *metadata.MD) error {
				stream, err := c.Consume(c.ctx, &queuepb.ConsumeRequest{Queues: []string{"d"}})
				if err == nil {
					_, err = stream.Recv()
					*trailer = stream.Trailer()
				}
				return err
			},
		}
		d.Hang()
		var waiting []chan struct{}
		began := time.Now()
		for name, call := range calls {
			done := make(chan struct{})
			waiting = append(waiting, done)
			go func() {
				defer close(done)
				var trailer metadata.MD
				err := call(&trailer)
				outcome, retry := outcomeOf(err)
				if got := refusalOf(t, err, trailer); got != slow || outcome != "UNKNOWN" || retry != time.Second {
					t.Errorf("%s = %v, outcome %q, retry after %v; want %v, UNKNOWN, 1s", name, got, outcome, retry, slow)
				}
				if took := time.Since(began); took != 2*time.Second {
					t.Errorf("%s was answered after %v, want 2s", name, took)
				}
			}()
		}
		for _, done := range waiting {
			<-done
		}
		began = time.Now()
		for name, call := range calls {
			var trailer metadata.MD
			err := call(&trailer)
			if name == "EnqueueBatch" && err == nil {
				continue // its items are refused, one by one
			}
			outcome, retry := outcomeOf(err)
			if got := refusalOf(t, err, trailer); got != slow || outcome != "" || retry != time.Second {
				t.Errorf("%s while it hangs = %v, outcome %q, retry after %v; want %v, none, 1s", name, got, outcome, retry, slow)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("what is refused took %v", took)
		}
		if _, err := c.GetServerInfo(c.ctx, &queuepb.GetServerInfoRequest{}); err != nil {
			t.Errorf("GetServerInfo = %v while the disk hangs: it needs none", err)
		}
		d.GoOn()
		synctest.Wait()
		first := must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", IdempotencyKey: "once"}))
		if !first.Receipt.Duplicate {
			t.Errorf("what had an unknown outcome was not carried out: %v", first)
		}
	})
}

// TestStalledSession: a session that waits for the disk ends after two seconds; it can be opened again when the disk goes
// on, and what it repeats has its first outcome. One that waits for nothing lives on, and what it asks is refused.
func TestStalledSession(t *testing.T) {
	onDisk(t, func(t *testing.T, c *client, d *journal.Faulty) {
		slow := refusal{codes.Unavailable, "JOURNAL_SLOW", ""}
		hello := func() *queuepb.Hello { return &queuepb.Hello{SessionId: []byte("0123456789abcdef")} }
		s, idle := c.openSession(hello()), c.openSession(&queuepb.Hello{}, opConsume(1, "a", 10))
		idle.next(1)
		d.Hang()
		batch := &queuepb.Operation{Id: 2, Request: &queuepb.Operation_EnqueueBatch{
			EnqueueBatch: &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{{Queue: "a"}, {Queue: "a"}}},
		}}
		s.do(opEnqueue(1, "a"), batch)
		if got := s.end(); got != slow {
			t.Errorf("status of the session that waits = %v, want %v", got, slow)
		}
		if len(s.queued) != 0 {
			t.Errorf("it was told %v before", s.queued)
		}
		stream, err := c.Session(c.ctx)
		if err == nil {
			_ = stream.Send(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1}}) // its end tells
			_, err = stream.Recv()
		}
		if got := refusalOf(t, err, stream.Trailer()); got != slow {
			t.Errorf("a new session = %v, want %v", got, slow)
		}
		idle.do(opEnqueue(2, "a"))
		e := idle.next(2).GetError()
		if e.GetReason() != "JOURNAL_SLOW" || e.GetOutcome() != queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED || e.GetRetryAfter().AsDuration() != time.Second {
			t.Errorf("an operation while it hangs = %v, want JOURNAL_SLOW, not applied, 1 s", e)
		}
		d.GoOn()
		synctest.Wait()
		s = c.openSession(hello(), opEnqueue(1, "a"), batch)
		if r := s.next(1).GetEnqueue().GetReceipt(); !r.GetDuplicate() {
			t.Errorf("repeated enqueue = %v, want the first receipt", r)
		}
		for i, r := range s.next(2).GetEnqueueBatch().GetResults() {
			if !r.GetReceipt().GetDuplicate() {
				t.Errorf("item %d of the repeated batch = %v, want the first receipt", i, r)
			}
		}
		for range 3 {
			if got := idle.next(1).GetConsume().GetDelivery(); got.GetAttempt() != 1 {
				t.Errorf("delivery = %v, want each once", got)
			}
		}
		s.write(&queuepb.SessionRequest{Ping: 1})
		idle.write(&queuepb.SessionRequest{Ping: 1})
		for idle.read().Pong == 0 { //nolint:revive // reads on
		}
		if len(idle.queued) != 0 {
			t.Errorf("more came: %v", idle.queued)
		}
	})
}

// TestJournalFailed: who waits is told that the outcome is unknown, and so is who comes later.
func TestJournalFailed(t *testing.T) {
	onDisk(t, func(t *testing.T, c *client, d *journal.Faulty) {
		s := c.openSession(&queuepb.Hello{})
		d.Fail(errors.New("input/output error"))
		want := refusal{codes.Unavailable, "JOURNAL_FAILED", ""}
		for range 2 {
			var trailer metadata.MD
			_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q"}, grpc.Trailer(&trailer))
			if got := refusalOf(t, err, trailer); got != want {
				t.Errorf("Enqueue = %v, want %v", got, want)
			}
			if outcome, _ := outcomeOf(err); outcome != "UNKNOWN" {
				t.Errorf("outcome %q, want UNKNOWN", outcome)
			}
		}
		s.do(opEnqueue(1, "q"))
		if got := s.end(); got != want {
			t.Errorf("session = %v, want %v", got, want)
		}
	})
}

// TestDiskFull: what would take room is refused, and what gives some goes on.
func TestDiskFull(t *testing.T) {
	onDisk(t, func(t *testing.T, c *client, _ *journal.Faulty) {
		consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"q"}, MaxInFlight: 10})
		call := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(c.Call(c.ctx, &queuepb.CallRequest{Queue: "q"}))
		delivery := c.delivery(consumer)
		c.bed.Broker.SetDiskFull(true)
		full := refusal{codes.ResourceExhausted, "DISK_FULL", ""}
		for name, try := range map[string]func(grpc.CallOption) error{
			"Enqueue": func(o grpc.CallOption) error {
				_, err := c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q"}, o)
				return err
			},
			"OpenPipe": func(o grpc.CallOption) error {
				_, err := c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}, o)
				return err
			},
			"Reply with more": func(o grpc.CallOption) error {
				_, err := c.Reply(c.ctx, &queuepb.ReplyRequest{
					Handle: delivery.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{}, More: true,
				}, o)
				return err
			},
		} {
			var trailer metadata.MD
			err := try(grpc.Trailer(&trailer))
			if got := refusalOf(t, err, trailer); got != full {
				t.Errorf("%s = %v, want %v", name, got, full)
			}
			if _, retry := outcomeOf(err); retry != time.Second {
				t.Errorf("%s: repeat after %v, want 1s", name, retry)
			}
		}
		other := c.consume(&queuepb.ConsumeRequest{Queues: []string{"q"}}) // a consumer of a queue that is there
		if err := other.CloseSend(); err != nil {
			t.Fatal(err)
		}
		reply := must[*queuepb.ReplyResponse](t)(c.Reply(c.ctx, &queuepb.ReplyRequest{
			Handle: delivery.Message.ReplyTo, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("v")}, Lease: delivery.Lease, Ack: true,
		}))
		if got := reply.Result.Outcome; got != queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED {
			t.Errorf("last reply = %v, want DELIVERED", got)
		}
		for range 3 { // receipt, reply, end
			must[*queuepb.CallResponse](t)(call.Recv())
		}
		c.bed.Broker.SetDiskFull(false)
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q"}))
	})
}
