package main

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/server"
)

// What all that is done with replyq shares: the server, which is what queue-server serves by default (no journal, no API
// keys), in this binary so that it can be profiled and asked for its memory; clients; and workers.

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
		<-served      //nolint:errcheck // it ends because it was shut down
		_ = b.Close() // nothing is kept that could fail
	}}, nil
}

// replyqClient makes a client with a session on each of the connections.
func replyqClient(j *job) (*client.Client, error) {
	return client.New(j.Addr, client.WithSessions(j.Shape.Connections))
}

// replyqWindows is a caller that has a goroutine per connection, with a client of its own so that what it does goes one way;
// see [windows].
func replyqWindows[T any](
	j *job, ask func(context.Context, *client.Client, *slot) T, await func(*slot, T) error,
) (*part, error) {
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
		return windows(l, len(clients), func(i int, s *slot) (T, error) { return ask(ctx, clients[i], s), nil }, await)
	}}, nil
}

// replyqPart is a caller's part of one client.
func replyqPart(c *client.Client, run func(*load) error) *part {
	return &part{run: run, close: func() { _ = c.Close() }} // the run is over
}

// A replyqWork is what a worker does with one queue.
type replyqWork struct {
	queue       string
	concurrency int
	prefetch    int
	handler     func() client.Handler // makes one for each connection
}

// replyqWorkers runs workers, each of them once per connection, and returns when their consumers are registered.
func replyqWorkers(c *client.Client, connections int, all ...replyqWork) (closeAll func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	failed := make(chan error, connections*len(all))
	for _, w := range all {
		config := client.WorkConfig{Concurrency: w.concurrency, Prefetch: w.prefetch, DrainGrace: time.Millisecond}
		for range connections {
			handler := w.handler()
			wg.Go(func() { failed <- c.Work(ctx, config, handler, w.queue) })
		}
	}
	closeAll = func() {
		cancel()
		wg.Wait()
		_ = c.Close() // the run is over
	}
	for _, w := range all {
		if err := replyqConsumers(c, w.queue, connections, failed); err != nil {
			closeAll()
			return nil, err
		}
	}
	return closeAll, nil
}

// replyqConsumers waits until so many consumers are there.
func replyqConsumers(c *client.Client, queue string, want int, failed <-chan error) error {
	ctx, cancel := connectContext()
	defer cancel()
	for {
		queues, err := c.Queues(ctx, queue)
		if err != nil {
			return err
		}
		for _, q := range queues {
			if q.GetName() == queue && int(q.GetStatistics().GetConsumers()) >= want {
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
