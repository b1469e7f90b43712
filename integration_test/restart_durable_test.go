package integration_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// What a server with a data directory keeps when it ends, and what its clients notice.

// startDurable starts a server with a data directory.
func startDurable(t *testing.T, dir string, flags ...string) *server {
	t.Helper()
	return startServer(t, append(flags, durable(dir)...)...)
}

// durable are the flags for a data directory. What consumers hold is not waited for long: it is kept.
func durable(dir string) []string {
	return []string{"--data-dir", dir, "--allow-tmpfs", "--drain-timeout", "3s"}
}

// again ends a server in one of two ways, and starts it again at the same address.
func (s *server) again(t *testing.T, how, dir string) *server {
	t.Helper()
	switch how {
	case "kill":
		s.kill()
	case "stop":
		s.signal(t, syscall.SIGTERM)
		if code := s.wait(t, patience); code != 0 {
			t.Fatalf("a server that was told to stop has exit code %d:\n%s", code, s.log.String())
		}
	}
	return startServerAt(t, s.addr, durable(dir)...)
}

// eachEnd runs a test with a server that is killed, and one that is stopped in order.
func eachEnd(t *testing.T, test func(t *testing.T, how string)) {
	t.Helper()
	for _, how := range []string{"kill", "stop"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			test(t, how)
		})
	}
}

func payloadsOf(t *testing.T, s *server, queue string, state queuepb.MessageState) (all []string) {
	t.Helper()
	res, err := queuepb.NewAdminServiceClient(s.watcher(t)).ListMessages(t.Context(), &queuepb.ListMessagesRequest{Queue: queue, State: state})
	if err != nil {
		t.Fatalf("ListMessages(%q) = %v", queue, err)
	}
	for _, m := range res.Messages {
		all = append(all, string(m.Payload))
	}
	return all
}

// TestPromise6RestartKeepsAll: queues with their configuration, messages in all states, pipes with replies and ends, keys,
// outcomes and handles are as before, however the server ended, and after a second time too.
func TestPromise6RestartKeepsAll(t *testing.T) {
	t.Parallel()
	eachEnd(t, func(t *testing.T, how string) {
		dir := filepath.Join(t.TempDir(), "data")
		s := startDurable(t, dir)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		c := s.client(t)
		stub, admin := s.stub(t), queuepb.NewAdminServiceClient(s.watcher(t))
		config := &queuepb.QueueConfig{MaxFailures: 3, MaxLength: 1000, Paused: true, LeaseTime: durationpb.New(time.Hour)}
		queue := try[*queuepb.CreateQueueResponse](t)(admin.CreateQueue(ctx, &queuepb.CreateQueueRequest{Name: "configured", Config: config})).Queue
		for i := range 3 {
			try[*queuepb.EnqueueResponse](t)(stub.Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "configured", Message: saying(fmt.Sprint(canary, i))}))
		}
		try[*queuepb.EnqueueResponse](t)(stub.Enqueue(ctx, &queuepb.EnqueueRequest{
			Queue: "later", Message: saying(canary + " later"), Delay: durationpb.New(3 * time.Second),
		}))
		keyed := &queuepb.EnqueueRequest{Queue: "keyed", Message: saying(canary), IdempotencyKey: "once", Pipe: &queuepb.PipeOptions{}}
		first := try[*queuepb.EnqueueResponse](t)(stub.Enqueue(ctx, keyed)).Receipt

		// A dead message, and one that was given back once.
		consumer, err := c.Consume(ctx, client.ConsumeConfig{MaxInFlight: 10}, "work")
		if err != nil {
			t.Fatal(err)
		}
		for _, fate := range []string{"dead", "retried"} {
			if _, err := c.Enqueue(ctx, "work", client.Message{Payload: []byte(canary + fate)}); err != nil {
				t.Fatal(err)
			}
			d, err := consumer.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if fate == "dead" {
				err = d.Reject(ctx, "it is bad")
			} else {
				err = d.Retry(ctx, time.Hour, "not now")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		consumer.Close()

		// Pipes: one open with a reply, one ended.
		open, ended := newPipe(ctx, t, stub), newPipe(ctx, t, stub)
		sendThrough(ctx, t, stub, open, "half", true)
		sendThrough(ctx, t, stub, ended, "whole", false)

		for range 2 {
			s = s.again(t, how, dir)
			stub, admin = s.stub(t), queuepb.NewAdminServiceClient(s.watcher(t))
			got := try[*queuepb.GetQueueResponse](t)(admin.GetQueue(ctx, &queuepb.GetQueueRequest{Name: "configured"})).Queue
			if !proto.Equal(got.Config, queue.Config) || !proto.Equal(got.CreatedAt, queue.CreatedAt) {
				t.Errorf("queue = %v, want %v", got, queue)
			}
			if got := payloadsOf(t, s, "configured", queuepb.MessageState_MESSAGE_STATE_READY); fmt.Sprint(got) != fmt.Sprintf("[%[1]s0 %[1]s1 %[1]s2]", canary) {
				t.Errorf("messages %q, want three in order", got)
			}
			if got := payloadsOf(t, s, "work", queuepb.MessageState_MESSAGE_STATE_DEAD); fmt.Sprint(got) != "["+canary+"dead]" {
				t.Errorf("dead messages %q", got)
			}
			delayed := try[*queuepb.ListMessagesResponse](t)(admin.ListMessages(ctx, &queuepb.ListMessagesRequest{
				Queue: "work", State: queuepb.MessageState_MESSAGE_STATE_DELAYED,
			})).Messages
			if len(delayed) != 1 || delayed[0].Attempts != 1 || delayed[0].Failures != 1 {
				t.Errorf("messages given back: %v, want one of one attempt", delayed)
			}
			if again := try[*queuepb.EnqueueResponse](t)(stub.Enqueue(ctx, keyed)).Receipt; !again.Duplicate || again.MessageId != first.MessageId {
				t.Errorf("repeat under its key: %v, want the receipt of %s", again, first.MessageId)
			}
			if got := received(ctx, t, stub, ended, 1); got != "whole, OK" {
				t.Errorf("the pipe that had ended gave %q", got)
			}
		}
		sendThrough(ctx, t, stub, open, "rest", false)
		if got := received(ctx, t, stub, open, 1); got != "half, rest, OK" {
			t.Errorf("the pipe that was open gave %q", got)
		}
		// What was scheduled comes at its time, and what was paused when it goes on.
		c = s.client(t)
		if consumer, err = c.Consume(ctx, client.ConsumeConfig{}, "later"); err != nil {
			t.Fatal(err)
		}
		if d, err := consumer.Next(ctx); err != nil || string(d.Payload) != canary+" later" {
			t.Errorf("scheduled message = %v, %v", d, err)
		}
		try[*queuepb.UpdateQueueResponse](t)(admin.UpdateQueue(ctx, &queuepb.UpdateQueueRequest{
			Name: "configured", Config: &queuepb.QueueConfig{}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"paused"}},
		}))
		if consumer, err = c.Consume(ctx, client.ConsumeConfig{}, "configured"); err != nil {
			t.Fatal(err)
		}
		if d, err := consumer.Next(ctx); err != nil || string(d.Payload) != canary+"0" || d.Attempt != 1 {
			t.Errorf("first message of the queue that was paused = %v, %v", d, err)
		}
	})
}

func saying(text string) *queuepb.Message { return &queuepb.Message{Payload: []byte(text)} }

// try fails the test on an error.
func try[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newPipe(ctx context.Context, t *testing.T, stub queuepb.QueueServiceClient) *queuepb.OpenPipeResponse {
	t.Helper()
	return try[*queuepb.OpenPipeResponse](t)(stub.OpenPipe(ctx, &queuepb.OpenPipeRequest{}))
}

func sendThrough(ctx context.Context, t *testing.T, stub queuepb.QueueServiceClient, pipe *queuepb.OpenPipeResponse, text string, more bool) {
	t.Helper()
	r := try[*queuepb.ReplyResponse](t)(stub.Reply(ctx, &queuepb.ReplyRequest{
		Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{Payload: []byte(text)}, More: more,
	}))
	if r.Result.Outcome != queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED {
		t.Errorf("reply %q = %v, want BUFFERED", text, r.Result)
	}
}

// received reads a pipe to its end.
func received(ctx context.Context, t *testing.T, stub queuepb.QueueServiceClient, pipe *queuepb.OpenPipeResponse, from uint64) (all string) {
	t.Helper()
	stream, err := stub.Receive(ctx, &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle, FromSequence: from})
	if err != nil {
		t.Fatal(err)
	}
	for {
		res := try[*queuepb.ReceiveResponse](t)(stream.Recv())
		if r := res.GetReply(); r != nil {
			all += string(r.GetPayload()) + ", "
		}
		if end := res.GetEnd(); end != nil {
			return all + end.Reason.String()[len("END_REASON_"):]
		}
	}
}

// TestRestartKeepsOutcomes: a session that comes back to the next run, and repeats what had no answer, has its first one.
func TestRestartKeepsOutcomes(t *testing.T) {
	t.Parallel()
	eachEnd(t, func(t *testing.T, how string) {
		dir := filepath.Join(t.TempDir(), "data")
		s := startDurable(t, dir)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		repeat := func() *queuepb.Receipt {
			stream, err := s.stub(t).Session(ctx)
			if err != nil {
				t.Fatal(err)
			}
			err = stream.Send(&queuepb.SessionRequest{
				Hello: &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("0123456789abcdef")},
				Operations: []*queuepb.Operation{{Id: 7, Request: &queuepb.Operation_Enqueue{
					Enqueue: &queuepb.EnqueueRequest{Queue: "q", Message: saying(canary)},
				}}},
			})
			for err == nil {
				var frame *queuepb.SessionResponse
				if frame, err = stream.Recv(); err == nil && len(frame.Results) > 0 {
					return frame.Results[0].GetEnqueue().GetReceipt()
				}
			}
			t.Fatal(err)
			return nil
		}
		first := repeat()
		for range 2 {
			s = s.again(t, how, dir)
			if again := repeat(); first.GetMessageId() == "" || again.GetMessageId() != first.GetMessageId() || !again.GetDuplicate() {
				t.Errorf("repeated operation = %v, want the receipt %v", again, first)
			}
		}
	})
}

// TestPromise6WaitersSurvive: callers and workers of the Go client notice nothing of three ends of the server but a pause;
// every call has its one answer.
func TestPromise6WaitersSurvive(t *testing.T) {
	t.Parallel()
	eachEnd(t, func(t *testing.T, how string) {
		const callers = 500
		dir := filepath.Join(t.TempDir(), "data")
		s := startDurable(t, dir)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		backoff := client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond})
		c, w := s.client(t, backoff), s.client(t, backoff)
		var mu sync.Mutex
		var holding sync.WaitGroup
		seen, release := make(map[string]int), make(chan struct{})
		holding.Add(callers)
		var working sync.WaitGroup
		workCtx, stopWork := context.WithCancel(ctx)
		working.Go(func() {
			err := w.Work(workCtx, client.WorkConfig{Concurrency: callers}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				mu.Lock()
				if seen[string(d.Payload)]++; seen[string(d.Payload)] == 1 {
					holding.Done()
				}
				mu.Unlock()
				<-release
				return &client.Answer{Payload: d.Payload}, nil
			}, "work")
			if err != nil {
				t.Errorf("Work() = %v", err)
			}
		})
		calls := make([]*client.Call, callers)
		for i := range calls {
			calls[i] = c.Call(ctx, "work", client.Message{Payload: fmt.Append(nil, canary, i)})
		}
		holding.Wait() // all are with the worker
		for range 3 {
			s = s.again(t, how, dir)
		}
		close(release)
		for i, call := range calls {
			if r, err := call.One(); err != nil || string(r.Payload) != fmt.Sprint(canary, i) {
				t.Fatalf("call %d: %v, %v", i, r, err)
			}
		}
		stopWork()
		working.Wait()
		for what, n := range seen {
			if n != 1 {
				t.Errorf("%s was worked on %d times: its lease was taken away", what, n)
			}
		}
		if q := s.statistics(t, "work"); q.Ready+q.InFlight+q.Delayed+q.Dead != 0 {
			t.Errorf("the queue still has %v", q)
		}
	})
}

// TestPlainWaiterAttachesAgain: a Python program whose stream was cut by the end of the server asks again with the same
// handle, and goes on after the reply that it had.
func TestPlainWaiterAttachesAgain(t *testing.T) {
	t.Parallel()
	eachEnd(t, func(t *testing.T, how string) {
		dir := filepath.Join(t.TempDir(), "data")
		s := startDurable(t, dir)
		stub := s.stub(t)
		pipe := newPipe(t.Context(), t, stub)
		sendThrough(t.Context(), t, stub, pipe, "first", true)
		waiter := s.play(t, inPython, "waiter", "--handle", pipe.ReceiveHandle.Token)
		if e := waiter.await(t, "reply"); e.Payload != "first" {
			t.Errorf("reply = %+v", e)
		}
		s = s.again(t, how, dir)
		if e := waiter.await(t, "status"); e.Code != "UNAVAILABLE" {
			t.Errorf("status = %+v, want UNAVAILABLE", e)
		}
		waiter = s.play(t, inPython, "waiter", "--handle", pipe.ReceiveHandle.Token, "--from", "2")
		s.awaitReaders(t, pipe.ReceiveHandle.Token, 1)
		if _, err := s.stub(t).Reply(t.Context(), &queuepb.ReplyRequest{
			Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("second")},
		}); err != nil {
			t.Fatal(err)
		}
		tell(t, waiter.name, waiter.all(t), "reply second", "end OK", "status OK")
	})
}

// TestStopAnswersWhatItAccepts: requests that are under way when a server with a data directory is told to stop are
// answered, or done once by the next.
func TestStopAnswersWhatItAccepts(t *testing.T) {
	t.Parallel()
	const producers, messages = 8, 300
	dir := filepath.Join(t.TempDir(), "data")
	s := startDurable(t, dir)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var all sync.WaitGroup
	half := make(chan struct{}, producers)
	for p := range producers {
		c := s.client(t, client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
		all.Go(func() {
			for i := range messages {
				if i == messages/2 {
					half <- struct{}{}
				}
				if _, err := c.Enqueue(ctx, "q", client.Message{Payload: fmt.Append(nil, canary, p, "-", i)}); err != nil {
					t.Errorf("Enqueue() = %v", err)
					return
				}
			}
		})
	}
	for range producers / 2 {
		<-half
	}
	s = s.again(t, "stop", dir)
	all.Wait()
	if q := s.statistics(t, "q"); q.Ready != producers*messages {
		t.Errorf("%d messages, want %d: each once", q.Ready, producers*messages)
	}
}

func journalOf(t *testing.T, s *server) *queuepb.JournalStatistics {
	t.Helper()
	admin := queuepb.NewAdminServiceClient(s.watcher(t))
	return try[*queuepb.GetServerStatisticsResponse](t)(admin.GetServerStatistics(t.Context(), &queuepb.GetServerStatisticsRequest{})).Journal
}

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestDiskNearlyFull: with less room than is wanted a server takes nothing new, and says that it is not ready; with room it
// does.
func TestDiskNearlyFull(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := startDurable(t, dir)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	try[*queuepb.EnqueueResponse](t)(s.stub(t).Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "q", Message: saying(canary)}))
	st := journalOf(t, s)
	if st.Batches == 0 || st.BatchBytes < uint64(len(canary)) || st.WrittenBytes < st.BatchBytes || st.StoreBytes == 0 || st.FreeBytes == 0 ||
		st.NearlyFull || st.Stalled || sum(st.Sizes.GetCounts()) != st.Batches || sum(st.Latencies.GetCounts()) != st.Batches || st.Latencies.GetSum() == 0 {
		t.Errorf("statistics of the journal = %v, want those of a few small batches", st)
	}
	s.kill()
	s = startDurable(t, dir, "--min-free-space", "900000GiB")
	if st := journalOf(t, s); !st.NearlyFull || st.WantedFreeBytes != 900000<<30 {
		t.Errorf("statistics of the journal = %v, want nearly full", st)
	}
	stub := s.stub(t)
	var trailer metadata.MD
	_, err := stub.Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "q"}, grpc.Trailer(&trailer))
	if status.Code(err) != codes.ResourceExhausted || strings.Join(trailer["replyq-reason"], "") != "DISK_FULL" {
		t.Errorf("Enqueue() = %v, %v, want DISK_FULL", err, trailer)
	}
	if code, output := runServerCommand(t, "health", "--address", s.addr); code != 1 || output != "NOT_SERVING" {
		t.Errorf("health = %d, %q, want NOT_SERVING", code, output)
	}
	stream, err := stub.Consume(ctx, &queuepb.ConsumeRequest{Queues: []string{"q"}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		res := try[*queuepb.ConsumeResponse](t)(stream.Recv())
		if d := res.GetDelivery(); d != nil {
			try[*queuepb.SettleResponse](t)(stub.Settle(ctx, &queuepb.SettleRequest{Lease: d.Lease}))
			break
		}
	}
	s.kill()
	s = startDurable(t, dir)
	try[*queuepb.EnqueueResponse](t)(s.stub(t).Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "q"}))
	if q := s.statistics(t, "q"); q.Ready != 1 {
		t.Errorf("%d messages are ready, want the new one", q.Ready)
	}
}
