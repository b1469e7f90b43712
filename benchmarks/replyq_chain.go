package main

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/replyq/replyq/client"
)

// A chain with replyq: each worker passes on what it gets, reply_to included, in the step that settles it; the last one
// answers. At no time is the request in nobody's hands.

func replyqHop(i int) string {
	if i == 0 {
		return replyqQueue
	}
	return "bench.hop." + strconv.Itoa(i)
}

func replyqChainWorker(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	var all []replyqWork
	for hop := range chainLength - 1 {
		all = append(all, replyqWork{
			queue: replyqHop(hop), concurrency: j.Shape.InFlight, // a handler waits for its settlement
			handler: func() client.Handler {
				return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
					_, err := d.Settle(ctx, client.Settlement{
						Messages: []client.Item{{Queue: replyqHop(hop + 1), Message: d.Message()}},
					})
					return nil, err
				}
			},
		})
	}
	all = append(all, replyqWork{
		queue: replyqHop(chainLength - 1), concurrency: 1, prefetch: max(256, j.Shape.InFlight),
		handler: func() client.Handler { return replyqAnswer(&handled) },
	})
	closeAll, err := replyqWorkers(c, j.Shape.Connections, all...)
	if err != nil {
		return nil, err
	}
	return &part{handled: &handled, close: closeAll}, nil
}
