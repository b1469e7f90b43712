package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/replyq/replyq/client"
)

// Streamed replies, with package client: a handler sends its answers through a ReplyStream, which does not wait for the
// outcome of each, and returns the last. The caller reads them as they come.

func replyqStreamWorker(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	closeAll, err := replyqWorkers(c, j.Shape.Connections, replyqWork{
		queue: replyqQueue, concurrency: j.Shape.InFlight,
		handler: func() client.Handler {
			return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				handled.Add(int64(j.Shape.answers())) // before the caller can know of it
				return replyqStream(ctx, d, j.Shape)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return &part{handled: &handled, close: closeAll}, nil
}

func replyqStream(ctx context.Context, d *client.Delivery, sh shape) (*client.Answer, error) {
	answers := newParts(sh.Payload)
	if err := answers.to(d.Payload); err != nil {
		return nil, err
	}
	last := sh.answers() - 1
	stream := d.ReplyStream(ctx)
	for i := range last {
		if err := stream.Send(client.Answer{Payload: answers.at(i)}); err != nil {
			return nil, err
		}
	}
	return &client.Answer{Payload: answers.at(last)}, nil
}

func replyqStreamCaller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	return replyqPart(c, func(l *load) error {
		return l.each(func(ctx context.Context, s *slot) error {
			return replyqReceive(c.Call(ctx, replyqQueue, client.Message{Payload: s.next()}), s, j.Shape.answers())
		})
	}), nil
}

// replyqReceive checks that a call has its answers in their order, and no more.
func replyqReceive(call *client.Call, s *slot, n int) error {
	if err := s.expectParts(); err != nil {
		return err
	}
	i := 0
	for reply, err := range call.Replies() {
		if err != nil {
			return err
		}
		if i == n {
			return fmt.Errorf("more than %d answers", n)
		}
		if err := s.parts.check(i, reply.Payload); err != nil {
			return err
		}
		i++
	}
	if i < n {
		return fmt.Errorf("%d answers of %d", i, n)
	}
	return nil
}
