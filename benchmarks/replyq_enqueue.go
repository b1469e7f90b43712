package main

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/replyq/replyq/client"
)

// Fire and forget: messages without a pipe, which the worker acks. There are three callers: replyq has a goroutine per
// message in flight that calls Enqueue; replyq-window has one per connection, which keeps its messages in flight with
// EnqueueAsync and awaits their receipts in turn, as that of JetStream does; replyq-batch calls EnqueueBatch, for as many of a
// connection's messages as were receipted last.

func enqueueWorker(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	p := &part{handled: new(atomic.Int64), trace: new(atomic.Uint64)}
	p.settled = func(ctx context.Context) (bool, error) {
		q, err := c.Queue(ctx, replyqQueue)
		if err != nil {
			return false, err
		}
		s := q.GetStatistics()
		return s.GetReady() == 0 && s.GetInFlight() == 0, nil
	}
	p.close, err = replyqWorkers(c, j.Shape.Connections, replyqWork{
		queue: replyqQueue, concurrency: 1, prefetch: 4096,
		handler: func() client.Handler {
			return func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				if err := checkRequest(d.Payload); err != nil {
					fatal(err)
				}
				p.trace.Add(traceOf(d.Payload))
				p.handled.Add(1)
				return nil, nil
			}
		},
	})
	return p, err
}

func enqueueCaller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	return replyqPart(c, func(l *load) error {
		return l.each(func(ctx context.Context, s *slot) error {
			_, err := c.Enqueue(ctx, replyqQueue, client.Message{Payload: s.next()})
			return err
		})
	}), nil
}

func asyncCaller(j *job) (*part, error) {
	return replyqWindows(j, func(ctx context.Context, c *client.Client, s *slot) *client.PendingEnqueue {
		return c.EnqueueAsync(ctx, replyqQueue, client.Message{Payload: s.next()})
	}, func(_ *slot, p *client.PendingEnqueue) error {
		_, err := p.Receipt()
		return err
	})
}

// batchSize is how many messages a batch has at most; a connection has several batches in flight, so that none waits for
// the one before it.
const batchSize = 64

func batchCaller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	return replyqPart(c, func(l *load) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		batches := (len(l.slots) + batchSize - 1) / batchSize
		for _, slots := range l.split(batches) {
			wg.Go(func() {
				if err := enqueueBatches(ctx, c, slots); err != nil {
					l.fail(err)
				}
			})
		}
		err := l.wait()
		if err != nil {
			cancel()
		}
		wg.Wait()
		return err
	}), nil
}

// enqueueBatches enqueues a message of each slot, again and again, until all are at rest.
func enqueueBatches(ctx context.Context, c *client.Client, slots []*slot) error {
	items := make([]client.Item, len(slots))
	for len(slots) > 0 {
		items = items[:len(slots)]
		for i, s := range slots {
			items[i] = client.Item{Queue: replyqQueue, Message: client.Message{Payload: s.next()}}
		}
		results, err := c.EnqueueBatch(ctx, items...)
		if err != nil {
			return err
		}
		more := slots[:0]
		for i, s := range slots {
			if results[i].Err != nil {
				return results[i].Err
			}
			if s.finish() {
				more = append(more, s)
			}
		}
		slots = more
	}
	return nil
}
