package client

import (
	"context"
	"fmt"
)

// Enqueue stores a message in a queue and returns once it is stored. With [WithPipe], or with message.ReplyTo, answers
// come back through a pipe; without, nobody waits for any.
//
// The error is an [*Error]. If ctx ends first, its Outcome tells whether the message may have been stored; repeating
// with the same [WithIdempotencyKey] is safe in any case.
func (c *Client) Enqueue(ctx context.Context, queue string, message Message, options ...EnqueueOption) (Receipt, error) {
	o := applyOptions(options)
	message.Headers = c.headersUnder(ctx, message.Headers)
	u := c.pools.unary(opEnqueue)
	u.operation.body = appendEnqueue(u.operation.body, fieldOf(opEnqueue), queue, &message, o, 0)
	u.repeatable = o.key != ""
	var response receiptIn
	if err := u.do(ctx, c.pick(), &response); err != nil {
		return Receipt{}, fmt.Errorf("enqueue %q: %w", queue, err)
	}
	return response.receipt, nil
}
