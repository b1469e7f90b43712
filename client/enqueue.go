package client

import (
	"context"
	"fmt"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/wire"
)

// Enqueue stores a message in a queue and returns once it is stored. With [WithPipe], or with message.ReplyTo, answers
// come back through a pipe; without, nobody waits for any.
//
// The error is an [*Error]. If ctx ends first, its Outcome tells whether the message may have been stored; repeating
// with the same [WithIdempotencyKey] is safe in any case.
func (c *Client) Enqueue(ctx context.Context, queue string, message Message, options ...EnqueueOption) (Receipt, error) {
	o := applyOptions(options)
	u := c.pools.unary(opEnqueue)
	u.operation.body = appendEnqueue(u.operation.body, fieldOf(opEnqueue), queue, &message, o, 0)
	u.repeatable = o.key != ""
	var response queuepb.EnqueueResponse
	if err := u.do(ctx, c.pick(), &response); err != nil {
		return Receipt{}, fmt.Errorf("enqueue %q: %w", queue, err)
	}
	return receiptFromWire(response.GetReceipt())
}

// Item is a message with the queue it goes to: an item of a batch, or of a [Settlement].
type Item struct {
	// Queue is the queue's name.
	Queue string
	// Message is what is enqueued.
	Message Message
	// Options are as in Enqueue.
	Options []EnqueueOption
}

// BatchResult is what became of one message of a batch.
type BatchResult struct {
	// Receipt is set if Err is nil.
	Receipt Receipt
	// Err says why the message was refused.
	Err error
}

// EnqueueBatch stores several messages in order, each for itself: the results are one per item, in their order. The
// error is that of the whole. At most 1,000 items and 4 MiB unless the server says otherwise.
func (c *Client) EnqueueBatch(ctx context.Context, items ...Item) ([]BatchResult, error) {
	u := c.pools.unary(opBatch)
	u.repeatable = true
	b, m := wire.Begin(u.operation.body, fieldOf(opBatch), len(items)*128)
	for i := range items {
		o := applyOptions(items[i].Options)
		u.repeatable = u.repeatable && o.key != ""
		b = appendEnqueue(b, 1, items[i].Queue, &items[i].Message, o, 0)
	}
	u.operation.body = m.End(b)
	var response queuepb.EnqueueBatchResponse
	if err := u.do(ctx, c.pick(), &response); err != nil {
		return nil, fmt.Errorf("enqueue batch: %w", err)
	}
	results := make([]BatchResult, len(response.GetResults()))
	for i, r := range response.GetResults() {
		if e := r.GetError(); e != nil {
			results[i].Err = fromWire(e)
			continue
		}
		results[i].Receipt, results[i].Err = receiptFromWire(r.GetReceipt())
	}
	return results, nil
}
