package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/replyq/replyq/client"
)

// The filler of idle-cost: leaves requests waiting in a queue that nobody consumes, makes queues that nobody uses, and
// opens sessions on which nothing happens.

const (
	idleQueue   = "idle.waiting"
	idlePayload = 128
	// idleCallers is how many goroutines fill.
	idleCallers = 64
)

func idleFiller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	f := &idling{addr: j.Addr, client: c}
	for range j.Shape.Connections { // so that the sessions are there before anything is weighed
		if _, err := c.Enqueue(context.Background(), "idle.begin", client.Message{}); err != nil {
			return nil, err
		}
	}
	return &part{
		tasks: map[string]func(int) error{"requests": f.requests, "queues": f.queues, "sessions": f.sessions},
		close: func() { _ = c.Close() }, // the run is over
	}, nil
}

// idling is what the filler keeps alive.
type idling struct {
	addr   string
	client *client.Client

	mu      sync.Mutex
	calls   []*client.Call
	clients []*client.Client
}

// requests leaves n requests waiting, and checks that they do.
func (f *idling) requests(n int) error {
	ctx := context.Background()
	err := inParallel(n, func(i int) error {
		call := f.client.Call(ctx, idleQueue, client.Message{Payload: newRequest(uint64(i), idlePayload)}) //nolint:gosec // not negative
		f.mu.Lock()
		f.calls = append(f.calls, call)
		f.mu.Unlock()
		return nil
	})
	for _, call := range f.calls {
		if _, err := call.Receipt(); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	q, err := f.client.Queue(ctx, idleQueue)
	if err != nil {
		return err
	}
	if s := q.GetStatistics(); s.GetReady() != uint64(n) || s.GetWaiters() != uint64(n) { //nolint:gosec // not negative
		return fmt.Errorf("%d messages and %d waiters where %d requests wait", s.GetReady(), s.GetWaiters(), n)
	}
	return nil
}

func (f *idling) queues(n int) error {
	return inParallel(n, func(i int) error {
		_, err := f.client.CreateQueue(context.Background(), fmt.Sprintf("idle.queue-%07d", i), nil)
		return err
	})
}

func (f *idling) sessions(n int) error {
	return inParallel(n, func(int) error {
		c, err := client.New(f.addr)
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.clients = append(f.clients, c)
		f.mu.Unlock()
		_, err = c.Enqueue(context.Background(), "idle.begin", client.Message{})
		return err
	})
}

// inParallel does something n times, from several goroutines.
func inParallel(n int, do func(i int) error) error {
	var wg sync.WaitGroup
	failed := make(chan error, idleCallers)
	for first := range idleCallers {
		wg.Go(func() {
			for i := first; i < n; i += idleCallers {
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}
