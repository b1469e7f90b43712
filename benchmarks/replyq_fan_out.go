package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/replyq/replyq/client"
)

// Fan-out with replyq: a request goes to a worker that deals it out. In the step that settles the request it enqueues the
// pieces, each with the reply_to that the request came with; other workers answer them. The pipe ends by itself when the
// last piece is acked, so nobody has to count.

const scatterQueue = "bench.scatter"

func replyqFanOutWorker(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	pieces := j.Shape.answers()
	closeAll, err := replyqWorkers(c, j.Shape.Connections,
		replyqWork{queue: scatterQueue, concurrency: j.Shape.InFlight, handler: func() client.Handler {
			return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				return nil, replyqScatter(ctx, d, pieces)
			}
		}},
		// A handler waits for its settlement, so several run.
		replyqWork{queue: replyqQueue, concurrency: 64, prefetch: pieces * j.Shape.InFlight, handler: func() client.Handler {
			return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
				return nil, replyqPiece(ctx, d, &handled)
			}
		}},
	)
	if err != nil {
		return nil, err
	}
	return &part{handled: &handled, close: closeAll}, nil
}

// replyqScatter deals a request out.
func replyqScatter(ctx context.Context, d *client.Delivery, n int) error {
	if err := checkRequest(d.Payload); err != nil {
		return err
	}
	items := make([]client.Item, n)
	for i := range items {
		m := d.Message()
		m.Payload = slices.Clone(d.Payload)
		setIndex(m.Payload, i)
		items[i] = client.Item{Queue: replyqQueue, Message: m}
	}
	_, err := d.Settle(ctx, client.Settlement{Messages: items})
	return err
}

// replyqPiece answers a piece, leaves the pipe open for the others, and acks.
func replyqPiece(ctx context.Context, d *client.Delivery, handled *atomic.Int64) error {
	payload, err := appendAnswer(nil, d.Payload)
	if err != nil {
		return err
	}
	handled.Add(1) // before the caller can know of it
	_, err = d.Settle(ctx, client.Settlement{
		Replies: []client.SettleReply{{Answer: &client.Answer{Payload: payload}, More: true}},
	})
	return err
}

func replyqFanOutCaller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	return replyqPart(c, func(l *load) error {
		return l.each(func(ctx context.Context, s *slot) error {
			s.pieces()
			got := 0
			for reply, err := range c.Call(ctx, scatterQueue, client.Message{Payload: s.piece(0)}).Replies() {
				if err != nil {
					return err
				}
				if err := s.checkPiece(reply.Payload); err != nil {
					return err
				}
				got++
			}
			if got != len(s.seen) {
				return fmt.Errorf("the pipe ended with %d answers of %d", got, len(s.seen))
			}
			return nil
		})
	}), nil
}
