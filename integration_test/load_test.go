package integration_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// The load: waiters that make one request after the other, and workers of which one is killed every second.
const (
	loadWaiters  = 100
	loadPlain    = 10 // of the waiters: on the plain face, with the generated stub; the others with package client
	loadWorkers  = 3
	loadRequests = 1000 // of each waiter; REPLYQ_LOAD says otherwise
	loadLimit    = 3 * time.Minute
	killEvery    = time.Second
)

// Under load, with a worker being killed every second, every request ends once, with the right answer. In full it takes
// well under a minute on two cores, with the race detector here, in the workers and in the server; so CI runs it in full.
func TestLoad(t *testing.T) {
	requests := loadRequests
	if v := os.Getenv("REPLYQ_LOAD"); v != "" {
		var err error
		if requests, err = strconv.Atoi(v); err != nil {
			t.Fatalf("REPLYQ_LOAD: %v", err)
		}
	}
	s := startServer(t, "--log-level", "info")
	workers := make([]*process, loadWorkers)
	for i := range workers {
		workers[i] = s.play(t, inGo, "worker", "--queue", "load")
	}
	ctx, stop := context.WithTimeout(t.Context(), loadLimit)
	defer stop()
	l := newLoad(requests)
	began := time.Now()
	l.start(ctx, s.client(t, client.WithSessions(4)), s.stub(t))

	kills := 0
	ticker := time.NewTicker(killEvery)
	defer ticker.Stop()
	for over := false; !over; {
		select {
		case <-ticker.C:
			victim := &workers[kills%loadWorkers]
			(*victim).kill()
			*victim = s.play(t, inGo, "worker", "--queue", "load")
			kills++
		case <-l.done:
			over = true
		}
	}
	took := time.Since(began)
	total := loadWaiters * requests
	l.check(t, total)
	t.Logf("%d requests in %v: %.0f/s; %d workers killed, %d requests redelivered",
		total, took.Round(time.Millisecond), float64(total)/took.Seconds(), kills, l.redelivered)
	if kills >= 5 && l.redelivered == 0 {
		t.Error("nothing was redelivered: the kills hit nobody at work, and the test proves nothing")
	}
	stats := s.statistics(t, "load")
	if n := uint64(total); stats.EnqueuedTotal != n || stats.AckedTotal != n {
		t.Errorf("enqueued %d, acked %d, want %d", stats.EnqueuedTotal, stats.AckedTotal, n)
	}
	if stats.Ready+stats.InFlight+stats.Delayed+stats.Dead+stats.Waiters != 0 {
		t.Errorf("messages or waiters are left: %v", stats)
	}
}

// A load notes what became of each request.
type load struct {
	requests int
	done     chan struct{} // closed when all waiters are through

	mu          sync.Mutex
	ended       int             // requests
	messages    map[string]bool // that the requests became, by id
	redelivered int
	wrong       []string // the first that went wrong
	wrongs      int
}

func newLoad(requests int) *load {
	return &load{requests: requests, done: make(chan struct{}), messages: make(map[string]bool)}
}

// start starts the waiters.
func (l *load) start(ctx context.Context, c *client.Client, stub queuepb.QueueServiceClient) {
	var waiters sync.WaitGroup
	for w := range loadWaiters {
		request := func(payload string) answered { return viaClient(ctx, c, payload) }
		if w < loadPlain {
			request = func(payload string) answered { return viaStub(ctx, stub, payload) }
		}
		waiters.Go(func() {
			for i := range l.requests {
				id := fmt.Sprintf("%s waiter %d request %d", canary, w, i)
				l.note(id, request(id))
			}
		})
	}
	go func() {
		waiters.Wait()
		close(l.done)
	}()
}

// answered is all that came of one request.
type answered struct {
	message  string
	replies  []string
	attempts []uint32
	ends     int
	err      error
}

func (l *load) note(id string, a answered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.ends > 0 {
		l.ended++
	}
	l.messages[a.message] = true
	want := loadAnswer([]byte(id))
	if a.err != nil || a.ends != 1 || len(a.replies) != 1 || a.replies[0] != want {
		if l.wrongs++; l.wrongs <= 10 {
			l.wrong = append(l.wrong, fmt.Sprintf(
				"%s: message %q, replies %q, %d ends, error %v; want one reply %s", id, a.message, a.replies, a.ends, a.err, want))
		}
		return
	}
	if a.attempts[0] > 1 {
		l.redelivered++
	}
}

func (l *load) check(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrongs > 0 {
		t.Errorf("%d requests went wrong:", l.wrongs)
		for _, w := range l.wrong {
			t.Error(w)
		}
	}
	if l.ended != n || len(l.messages) != n {
		t.Errorf("%d requests ended, and they were %d messages, want %d", l.ended, len(l.messages), n)
	}
}

// viaClient makes a request with package client.
func viaClient(ctx context.Context, c *client.Client, payload string) (a answered) {
	call := c.Call(ctx, "load", client.Message{Payload: []byte(payload)})
	receipt, err := call.Receipt()
	if err != nil {
		return answered{err: err}
	}
	a.message = receipt.MessageID
	for reply, err := range call.Replies() {
		if err != nil {
			a.err = err
			break
		}
		a.replies, a.attempts = append(a.replies, string(reply.Payload)), append(a.attempts, reply.Attempt)
	}
	a.ends++
	return a
}

// viaStub makes a request with the generated stub, and reads on until the stream has ended.
func viaStub(ctx context.Context, stub queuepb.QueueServiceClient, payload string) (a answered) {
	stream, err := stub.Call(ctx, &queuepb.CallRequest{Queue: "load", Message: &queuepb.Message{Payload: []byte(payload)}})
	if err != nil {
		return answered{err: err}
	}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			a.err = err
			return a
		}
		switch e := res.Event.(type) {
		case *queuepb.CallResponse_Receipt:
			a.message = e.Receipt.MessageId
		case *queuepb.CallResponse_Reply:
			a.replies, a.attempts = append(a.replies, string(e.Reply.Payload)), append(a.attempts, e.Reply.Attempt)
		case *queuepb.CallResponse_End:
			a.ends++
		}
	}
}

// loadAnswer is what a worker of the load answers.
func loadAnswer(payload []byte) string { return fmt.Sprintf("%x", sha256.Sum256(payload)) }

// worker works for the load, until it is killed.
func (p *part) worker() error {
	return p.client.Work(context.Background(), client.WorkConfig{Concurrency: 8, Prefetch: 24},
		func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
			return client.NewAnswer(loadAnswer(d.Payload))
		}, p.queue)
}
