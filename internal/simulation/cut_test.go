package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/testbed"
)

var stride = flag.Int64("sim.stride", defaultStride, "cut a session after every so many bytes; 1 is every byte")

// cutBytes is how far cuts go: the session is longer, either way.
const cutBytes = 64 << 10

// TestEveryCut cuts one and the same session after each of many bytes, in either direction. However it was cut, each
// operation has one effect, each reply comes once and in order, and the application does nothing about it.
func TestEveryCut(t *testing.T) {
	whole := cutSession(t, faultnet.Plan{})
	if whole.out < cutBytes || whole.in < cutBytes {
		t.Fatalf("the session is %d bytes out and %d in, want at least %d either way", whole.out, whole.in, cutBytes)
	}
	for _, way := range []string{"out", "in"} {
		for part := range int64(2) {
			t.Run(fmt.Sprint(way, " ", part), func(t *testing.T) {
				t.Parallel()
				cuts := 0
				for after := part * *stride; after < cutBytes; after += 2 * *stride {
					cut := faultnet.Way{Faults: []faultnet.Fault{{After: after}}}
					plan := faultnet.Plan{Out: cut}
					if way == "in" {
						plan = faultnet.Plan{In: cut}
					}
					if s := cutSession(t, plan); s.connections < 2 {
						t.Errorf("cut %s after %d bytes: the session was not cut", way, after)
					}
					cuts++
				}
				t.Logf("%d cuts", cuts)
			})
		}
	}
}

// A session is the one that is cut, with what it did.
type session struct {
	t       *testing.T
	ctx     context.Context
	plan    faultnet.Plan
	bed     *testbed.Bed
	c       *client.Client // whose first connection is cut
	steady  *client.Client // the other side of its calls
	out, in int64          // bytes of the first connection

	connections int
}

func cutSession(t *testing.T, plan faultnet.Plan) *session {
	t.Helper()
	s := &session{plan: plan}
	defer func() {
		if t.Failed() {
			t.Logf("with %+v", plan)
		}
	}()
	synctest.Test(t, s.run)
	return s
}

func (s *session) run(t *testing.T) {
	s.t = t
	s.bed = testbed.New(t, testbed.InMemory())
	dialer := &faultnet.Dialer{
		Dial: s.bed.DialMemory,
		Plan: func(n int) faultnet.Plan {
			if n > 0 {
				return faultnet.Plan{}
			}
			return s.plan
		},
	}
	s.c, s.steady = s.client(dialer.DialContext), s.client(func(ctx context.Context, _ string) (net.Conn, error) { return s.bed.DialMemory(ctx) })
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	s.ctx = ctx
	s.operate()
	if err := errors.Join(s.c.Close(), s.steady.Close()); err != nil {
		t.Errorf("Close() = %v", err)
	}
	conns := dialer.Conns()
	s.connections = len(conns)
	s.out, s.in = conns[0].Passed()
}

func (s *session) client(dial func(context.Context, string) (net.Conn, error)) *client.Client {
	c, err := client.New(s.bed.Addr, client.WithDialOptions(grpc.WithContextDialer(dial)),
		client.WithBackoff(client.Backoff{Initial: time.Millisecond, Max: 10 * time.Millisecond}))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// payload is as long as n others, and unlike any other.
func payload(name string, n int) []byte { return bytes.Repeat([]byte(name+" "), n) }

// operate does one or more of everything that a session can do, all at once.
func (s *session) operate() {
	working, stop := context.WithCancel(s.ctx)
	var workers, all sync.WaitGroup
	// The calls of the session are answered by the other client, and the other client's by the session.
	workers.Go(func() { s.work(working, s.steady, "ours") })
	workers.Go(func() { s.work(working, s.c, "theirs") })
	for i := range 6 {
		all.Go(func() { s.stream(s.c, "ours", i) })
		all.Go(func() { s.stream(s.steady, "theirs", i) })
		all.Go(func() { s.enqueue(i) })
		all.Go(func() { s.pipe(i) })
		all.Go(func() { s.withdraw(i) })
	}
	all.Go(s.batch)
	all.Go(s.consume)
	all.Wait()
	stop()
	workers.Wait()
	s.checkStored()
}

// A call with many replies, and what it takes to answer it.

const streamed = 8

func (s *session) work(ctx context.Context, c *client.Client, queue string) {
	var mu sync.Mutex
	handled := make(map[string]int)
	config := client.WorkConfig{Concurrency: 3, DisconnectGrace: time.Minute}
	err := c.Work(ctx, config, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		mu.Lock()
		handled[string(d.Payload)]++
		mu.Unlock()
		for i := range streamed - 1 {
			if _, err := d.ReplyMore(ctx, client.Answer{Payload: payload(fmt.Sprint(string(d.Payload), ".", i), 60)}); err != nil {
				return nil, err
			}
		}
		return &client.Answer{Payload: payload(fmt.Sprint(string(d.Payload), ".", streamed-1), 60)}, nil
	}, queue)
	if err != nil {
		s.t.Errorf("Work(%q) = %v", queue, err)
	}
	// With a grace, and its handlers alive all the time, each delivery that came is worked on once.
	for name, times := range handled {
		if times != 1 {
			s.t.Errorf("message %s of %s was worked on %d times", name, queue, times)
		}
	}
}

func (s *session) stream(c *client.Client, queue string, i int) {
	name := fmt.Sprint(queue, i)
	n := 0
	for reply, err := range c.Call(s.ctx, queue, client.Message{Payload: []byte(name)}).Replies() {
		if err != nil {
			s.t.Errorf("call %s: %v", name, err)
			return
		}
		if want := payload(fmt.Sprint(name, ".", n), 60); !bytes.Equal(reply.Payload, want) || reply.Sequence != uint64(n+1) {
			s.t.Errorf("call %s: reply %d has sequence %d and %d bytes, or other ones", name, n, reply.Sequence, len(reply.Payload))
		}
		n++
	}
	if n != streamed {
		s.t.Errorf("call %s: got %d replies", name, n)
	}
}

// What is stored.

func (s *session) enqueue(i int) {
	for n := range 4 {
		if _, err := s.c.Enqueue(s.ctx, "stored", client.Message{Payload: payload(fmt.Sprint(i, ".", n), 120)}); err != nil {
			s.t.Errorf("Enqueue() = %v", err)
		}
	}
}

func (s *session) batch() {
	var items []client.Item
	for i := range 20 {
		items = append(items, client.Item{Queue: "stored", Message: client.Message{Payload: payload(fmt.Sprint("batch", i), 20)}})
	}
	results, err := s.c.EnqueueBatch(s.ctx, items...)
	if err != nil {
		s.t.Errorf("EnqueueBatch() = %v", err)
	}
	for _, r := range results {
		if r.Err != nil {
			s.t.Errorf("EnqueueBatch(): %v", r.Err)
		}
	}
}

// checkStored counts what is in the queue now.
func (s *session) checkStored() {
	const want = 6*4 + 20
	consumer, err := s.steady.Consume(s.ctx, client.ConsumeConfig{MaxInFlight: 100, IdleTime: time.Second}, "stored")
	if err != nil {
		s.t.Errorf("Consume() = %v", err)
		return
	}
	times := make(map[string]int)
	for d, err := range consumer.Deliveries(s.ctx) {
		if err != nil {
			s.t.Errorf("Next() = %v", err)
			return
		}
		name, _, _ := bytes.Cut(d.Payload, []byte(" "))
		if times[string(name)]++; times[string(name)] > 1 {
			s.t.Errorf("message %s is stored more than once", name)
		}
		if err := d.Ack(s.ctx); err != nil {
			s.t.Errorf("Ack() = %v", err)
		}
	}
	if len(times) != want {
		s.t.Errorf("%d messages are stored, want %d", len(times), want)
	}
}

// A pipe that is opened, written and read by the session itself, at the same time.
func (s *session) pipe(i int) {
	pipe, err := s.c.OpenPipe(s.ctx, client.PipeOptions{})
	if err != nil {
		s.t.Errorf("OpenPipe() = %v", err)
		return
	}
	value := client.NewFuture[[]byte](s.c, pipe.Receive)
	done := value.Done()
	want := payload(fmt.Sprint("pipe", i), 500)
	w := s.c.NewWriter(s.ctx, pipe.Send, client.WriterOptions{PartSize: 700})
	if _, err := w.Write(want); err != nil {
		s.t.Errorf("Write() = %v", err)
	}
	if err := w.Close(); err != nil {
		s.t.Errorf("Close() = %v", err)
	}
	<-done
	if got, err := value.Reader(s.ctx).ReadAll(); err != nil || !bytes.Equal(got, want) {
		s.t.Errorf("pipe %d: got %d bytes, %v", i, len(got), err)
	}
	if outcome, err := s.c.Reply(s.ctx, pipe.Send, client.Answer{}); err != nil || outcome.Status != client.ReplyEnded || outcome.Reason != client.EndOK {
		s.t.Errorf("Reply() after the end = %+v, %v", outcome, err)
	}
}

// A message that is withdrawn: by a cancel that ends its pipe, once.
func (s *session) withdraw(i int) {
	receipt, err := s.c.Enqueue(s.ctx, "withdrawn", client.Message{Payload: fmt.Append(nil, i)}, client.WithPipe(client.PipeOptions{}))
	if err != nil {
		s.t.Errorf("Enqueue() = %v", err)
		return
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		if _, err := client.NewFuture[string](s.c, receipt.ReceiveHandle).Await(s.ctx); !errors.Is(err, client.ErrCancelled) {
			s.t.Errorf("Await() = %v, want CANCELLED", err)
		}
	})
	if cancelled, reason, err := s.c.Cancel(s.ctx, receipt.ReceiveHandle, "withdrawn"); err != nil || !cancelled {
		s.t.Errorf("Cancel() = %v, %v, %v, want the first outcome", cancelled, reason, err)
	}
	ended.Wait()
}

// consume takes what the other client enqueues, and settles it with all that a settlement can carry.
func (s *session) consume() {
	const n = 12
	consumer, err := s.c.Consume(s.ctx, client.ConsumeConfig{MaxInFlight: 3, MaxDeliveries: n, DisconnectGrace: time.Minute}, "taken")
	if err != nil {
		s.t.Errorf("Consume() = %v", err)
		return
	}
	var receipts []handles.Handle
	for i := range n {
		receipt, err := s.steady.Enqueue(s.ctx, "taken", client.Message{Payload: payload(fmt.Sprint("taken", i), 100)}, client.WithPipe(client.PipeOptions{}))
		if err != nil {
			s.t.Errorf("Enqueue() = %v", err)
			return
		}
		receipts = append(receipts, receipt.ReceiveHandle)
	}
	got := 0
	for d, err := range consumer.Deliveries(s.ctx) {
		if err != nil {
			s.t.Errorf("Next() = %v", err)
			return
		}
		result, err := d.Settle(s.ctx, client.Settlement{
			Replies:  []client.SettleReply{{Answer: &client.Answer{Payload: d.Payload}}},
			Messages: []client.Item{{Queue: "passed-on", Message: client.Message{Payload: d.Payload[:8]}}},
		})
		if err != nil || len(result.Receipts) != 1 || result.Replies[0].Gone() {
			s.t.Errorf("Settle() = %+v, %v", result, err)
		}
		got++
	}
	if got < n {
		s.t.Errorf("%d deliveries came, want %d", got, n)
	}
	for i, receive := range receipts {
		if value, err := client.NewFuture[string](s.steady, receive).Await(s.ctx); err != nil || value != string(payload(fmt.Sprint("taken", i), 100)) {
			s.t.Errorf("taken %d: got %q, %v", i, value, err)
		}
	}
	if stored := s.queueLength("passed-on"); stored != n {
		s.t.Errorf("%d messages were passed on, want %d", stored, n)
	}
}

func (s *session) queueLength(queue string) (n uint64) {
	for _, q := range s.bed.Broker.QueueStatistics(1, queue) {
		n += q.Ready
	}
	return n
}
