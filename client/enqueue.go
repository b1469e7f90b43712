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
	var response receiptIn
	if err := c.enqueueing(ctx, queue, message, options).do(ctx, c.pick(), &response); err != nil {
		return Receipt{}, enqueueError(queue, err)
	}
	return response.receipt, nil
}

// EnqueueAsync is [Client.Enqueue] for those who store many messages and do not wait for each: it returns as soon as the
// message is on its way, and its [PendingEnqueue] says later what became of it. Ask each for its receipt: only then is a
// message sent again that was refused for the moment (its queue is full, say). Such messages come later than what was stored
// after them; apart from them, what one goroutine stores in a queue, with one session, is stored in its order.
//
// It waits only while as many operations are under way as the session takes, which bounds the memory, and no longer than
// ctx. The context is also that of the receipt. [Client.Close] does not wait for messages on their way.
func (c *Client) EnqueueAsync(ctx context.Context, queue string, message Message, options ...EnqueueOption) *PendingEnqueue {
	p := &PendingEnqueue{ctx: ctx, link: c.pick(), queue: queue, unary: c.enqueueing(ctx, queue, message, options)}
	if err := p.unary.begin(ctx, p.link); err != nil {
		p.unary, p.err = nil, enqueueError(queue, err)
	}
	return p
}

// A PendingEnqueue is a message that is on its way to be stored. It belongs to one goroutine at a time.
type PendingEnqueue struct {
	ctx     context.Context //nolint:containedctx // of the one operation, as in http.Request
	link    *link
	queue   string
	unary   *unary // nil: it is known what became of it
	receipt Receipt
	err     error
}

// Receipt waits until the message is stored. What is refused for the moment is sent again, from here. The error is as for
// [Client.Enqueue]: an [*Error], whose Outcome tells whether the message may have been stored. Later calls return the same.
func (p *PendingEnqueue) Receipt() (Receipt, error) {
	if u := p.unary; u != nil {
		p.unary = nil
		var response receiptIn
		if err := u.finish(p.ctx, p.link, &response); err != nil {
			p.err = enqueueError(p.queue, err)
		} else {
			p.receipt = response.receipt
		}
	}
	return p.receipt, p.err
}

// enqueueing is the operation that stores a message.
func (c *Client) enqueueing(ctx context.Context, queue string, message Message, options []EnqueueOption) *unary {
	o := applyOptions(options)
	message.Headers = c.headersUnder(ctx, message.Headers)
	u := c.pools.unary(opEnqueue)
	u.operation.body = appendEnqueue(u.operation.body, fieldOf(opEnqueue), queue, &message, o, 0)
	u.repeatable = o.key != ""
	return u
}

func enqueueError(queue string, err error) error { return fmt.Errorf("enqueue %q: %w", queue, err) }
