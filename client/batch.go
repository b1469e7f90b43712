package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/replyq/replyq/internal/wire"
)

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
//
// Messages that are refused for the moment (their queue is full, say) are sent again, together, until ctx ends: those of
// a full queue then come after the others.
func (c *Client) EnqueueBatch(ctx context.Context, items ...Item) ([]BatchResult, error) {
	results := make([]BatchResult, len(items))
	rest := make([]int, len(items)) // indices of what is to be sent
	for i := range rest {
		rest[i] = i
	}
	items = c.itemsUnder(ctx, items)
	if err := c.enqueueItems(ctx, items, rest, results); err != nil {
		return nil, fmt.Errorf("enqueue batch: %w", err)
	}
	for {
		refusal := (*Error)(nil)
		if rest, refusal = refusedForNow(results, rest); refusal == nil {
			return results, nil
		}
		if patience(ctx, refusal.RetryAfter, refusal) != nil {
			for _, i := range rest {
				results[i].Err = madeFinal(ctx, results[i].Err)
			}
			return results, nil
		}
		if err := c.enqueueItems(ctx, items, rest, results); err != nil {
			for _, i := range rest {
				results[i] = BatchResult{Err: err}
			}
			return results, nil
		}
	}
}

// enqueueItems sends the items of the given indices, and puts what became of them into results.
func (c *Client) enqueueItems(ctx context.Context, items []Item, indices []int, results []BatchResult) error {
	u := c.pools.unary(opBatch)
	u.repeatable = true
	b, m := wire.Begin(u.operation.body, fieldOf(opBatch), len(indices)*128)
	for _, i := range indices {
		o := applyOptions(items[i].Options)
		u.repeatable = u.repeatable && o.key != ""
		b = appendEnqueue(b, 1, items[i].Queue, &items[i].Message, o, 0)
	}
	u.operation.body = m.End(b)
	return u.do(ctx, c.pick(), &batchResponse{indices: indices, results: results})
}

// batchResponse puts the results of the items that were sent where they belong.
type batchResponse struct {
	indices []int
	results []BatchResult
}

// UnmarshalVT decodes an EnqueueBatchResponse.
func (r *batchResponse) UnmarshalVT(b []byte) error {
	var f wire.Field
	var err error
	n := 0
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return errMalformed
		}
		if f.Num != 1 {
			continue
		}
		if n == len(r.indices) {
			return errMalformed
		}
		var item receiptIn
		result := &r.results[r.indices[n]]
		n++
		*result = BatchResult{}
		if result.Err = item.UnmarshalVT(f.Bytes); item.refusal != nil {
			result.Err = item.refusal
		}
		if result.Err == nil {
			result.Receipt = item.receipt
		}
	}
	if n != len(r.indices) {
		return errMalformed
	}
	return nil
}

// refusedForNow returns which of the items the server wants to see again, and its refusal that asks for the most
// patience; nil if there are none.
func refusedForNow(results []BatchResult, indices []int) (again []int, longest *Error) {
	for _, i := range indices {
		if results[i].Err == nil {
			continue
		}
		var e *Error
		if !errors.As(results[i].Err, &e) {
			continue
		}
		if d, repeat := e.repeatAfter(); repeat {
			again = append(again, i)
			if longest == nil || d > longest.RetryAfter {
				longest = e
			}
		}
	}
	return again, longest
}

// madeFinal is a refusal that the end of the context made final.
func madeFinal(ctx context.Context, refusal error) error {
	var e *Error
	if !errors.As(refusal, &e) {
		return refusal
	}
	final := *e
	final.cause = ctx.Err()
	return &final
}
