package main

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/server"
)

// replyq over sessions, with package client: Work answers, Call asks.
//
// The server is what queue-server serves by default (no journal, no API keys), in this binary so that it can be
// profiled. The worker has one handler per connection, which takes one delivery after the other as a NATS subscription
// does, with enough deliveries held ready. There are two callers, like NATS's: replyq has a goroutine per request in
// flight that calls and awaits; replyq-window has one per connection, which keeps all its requests in flight and awaits
// them in their order.

const replyqQueue = "bench.echo"

func replyqServer(*job) (*part, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as queue-server does
	}
	keys, err := handles.NewEphemeral()
	if err != nil {
		return nil, err
	}
	b, err := broker.Open(broker.Config{})
	if err != nil {
		return nil, err
	}
	s, err := server.New(server.Config{Broker: b, Keys: keys})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return &part{addr: l.Addr().String(), close: func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		<-served
		_ = b.Close() // nothing is kept that could fail
	}}, nil
}

func replyqWorker(j *job) (*part, error) {
	c, err := client.New(j.Addr, client.WithSessions(j.Shape.Connections))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var handled atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, j.Shape.Connections)
	for range j.Shape.Connections {
		config := client.WorkConfig{Concurrency: 1, Prefetch: max(256, j.Shape.InFlight), DrainGrace: time.Millisecond}
		handle := replyqHandler(&handled)
		wg.Go(func() { failed <- c.Work(ctx, config, handle, replyqQueue) })
	}
	closeAll := func() {
		cancel()
		wg.Wait()
		_ = c.Close() // the run is over
	}
	if err := replyqConsumers(c, j.Shape.Connections, failed); err != nil {
		closeAll()
		return nil, err
	}
	return &part{handled: &handled, close: closeAll}, nil
}

// replyqHandler answers. Its answer is encoded before it is called again.
func replyqHandler(handled *atomic.Int64) client.Handler {
	var answer client.Answer
	return func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
		var err error
		if answer.Payload, err = appendAnswer(answer.Payload[:0], d.Payload); err != nil {
			return nil, err
		}
		handled.Add(1)
		return &answer, nil
	}
}

// replyqConsumers waits until so many consumers are there.
func replyqConsumers(c *client.Client, want int, failed <-chan error) error {
	ctx, cancel := connectContext()
	defer cancel()
	for {
		queues, err := c.Queues(ctx, "")
		if err != nil {
			return err
		}
		for _, q := range queues {
			if q.GetName() == replyqQueue && int(q.GetStatistics().GetConsumers()) >= want {
				return nil
			}
		}
		select {
		case err := <-failed:
			return errors.Join(errors.New("a worker ended at its start"), err)
		case <-ctx.Done():
			return errors.New("the consumers are not there")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func replyqCaller(j *job) (*part, error) {
	c, err := client.New(j.Addr, client.WithSessions(j.Shape.Connections))
	if err != nil {
		return nil, err
	}
	return &part{
		run: func(l *load) error {
			return l.each(func(ctx context.Context, _ *slot, request []byte) ([]byte, error) {
				reply, err := c.Call(ctx, replyqQueue, client.Message{Payload: request}).One()
				if err != nil {
					return nil, err
				}
				return onlyReply(reply)
			})
		},
		close: func() { _ = c.Close() }, // the run is over
	}, nil
}

// onlyReply is the payload of a pipe's one reply.
func onlyReply(r client.Reply) ([]byte, error) {
	if r.Sequence != 1 {
		return nil, errors.New("a pipe had several replies where one was sent")
	}
	return r.Payload, nil
}

func replyqWindowCaller(j *job) (*part, error) {
	var clients []*client.Client
	closeAll := func() {
		for _, c := range clients {
			_ = c.Close() // the run is over
		}
	}
	for range j.Shape.Connections {
		c, err := client.New(j.Addr)
		if err != nil {
			closeAll()
			return nil, err
		}
		clients = append(clients, c)
	}
	return &part{close: closeAll, run: func(l *load) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		for i, slots := range l.split(len(clients)) {
			wg.Go(func() { replyqWindow(ctx, clients[i], l, slots) })
		}
		err := l.wait()
		cancel()
		wg.Wait()
		return err
	}}, nil
}

// replyqWindow keeps a request of each slot in flight, until the load is over.
func replyqWindow(ctx context.Context, c *client.Client, l *load, slots []*slot) {
	calls := make([]*client.Call, len(slots))
	call := func(i int) {
		calls[i] = c.Call(ctx, replyqQueue, client.Message{Payload: slots[i].next()})
	}
	for i := range slots {
		call(i)
	}
	for left := len(slots); left > 0; {
		for i, waiting := range calls {
			if waiting == nil {
				continue
			}
			reply, err := waiting.One()
			var b []byte
			if err == nil {
				b, err = onlyReply(reply)
			}
			if err != nil {
				l.fail(err)
				return
			}
			if slots[i].answer(b) {
				call(i)
			} else {
				calls[i] = nil
				left--
			}
		}
		select {
		case <-l.failed:
			return
		default:
		}
	}
}
