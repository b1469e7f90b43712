package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/replyq/replyq/client"
)

// Request and reply over sessions, with package client: Work answers, Call asks.
//
// The worker has one handler per connection, which takes one delivery after the other as a NATS subscription does, with
// enough deliveries held ready. There are two callers, like NATS's: replyq has a goroutine per request in flight that
// calls and awaits; replyq-window has one per connection, which keeps all its requests in flight and awaits them in
// their order.

func replyqWorker(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	closeAll, err := replyqWorkers(c, j.Shape.Connections, replyqWork{
		queue: replyqQueue, concurrency: 1, prefetch: max(256, j.Shape.InFlight),
		handler: func() client.Handler { return replyqAnswer(&handled) },
	})
	if err != nil {
		return nil, err
	}
	return &part{handled: &handled, close: closeAll}, nil
}

// replyqAnswer makes a handler that answers. Its answer is encoded before it is called again.
func replyqAnswer(handled *atomic.Int64) client.Handler {
	var answer client.Answer
	return func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
		var err error
		if answer.Payload, err = appendAnswer(answer.Payload[:0], d.Payload); err != nil {
			return nil, err
		}
		handled.Add(1) // before the caller can know of it
		return &answer, nil
	}
}

func replyqCaller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	return replyqPart(c, func(l *load) error {
		return l.calls(func(ctx context.Context, _ *slot, request []byte) ([]byte, error) {
			return replyqOne(c.Call(ctx, replyqQueue, client.Message{Payload: request}))
		})
	}), nil
}

// replyqOne awaits the one answer of a call.
func replyqOne(call *client.Call) ([]byte, error) {
	reply, err := call.One()
	if err != nil {
		return nil, err
	}
	if reply.Sequence != 1 {
		return nil, errors.New("a pipe had several replies where one was sent")
	}
	return reply.Payload, nil
}

func replyqWindowCaller(j *job) (*part, error) {
	return replyqWindows(j, func(ctx context.Context, c *client.Client, s *slot) *client.Call {
		return c.Call(ctx, replyqQueue, client.Message{Payload: s.next()})
	}, func(s *slot, call *client.Call) error {
		answer, err := replyqOne(call)
		if err != nil {
			return err
		}
		return s.check(answer)
	})
}
