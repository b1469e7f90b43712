package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/replyq/replyq/handles"
)

// Call is a request that awaits its answers. Ask it for the one value with [Call.One], or for the replies as they come
// with [Call.Replies]. It belongs to one goroutine at a time; only Cancel may be called from others.
type Call struct {
	reader
	client *Client
	queue  string
}

// Call stores a message in a queue and awaits its answers through a pipe of its own:
//
//	reply, err := c.Call(ctx, "reports", client.Message{Payload: p}).One()
//
// It returns as soon as the request is on its way, so that many calls can be made one after the other and awaited
// afterwards; errors show where an answer is asked for. When ctx ends before the pipe does, the pipe is cancelled: a
// queued message is withdrawn, and the consumer that works on it is told. The deadline of ctx, if it has one and
// [PipeOptions] names no timeout, becomes the pipe's. The context has to end some day, or the answers have to be
// awaited, for a call to be cleaned up before its pipe's deadline.
func (c *Client) Call(ctx context.Context, queue string, message Message, options ...CallOption) *Call {
	o := applyOptions(options)
	call := &Call{client: c, queue: queue}
	r := &call.reader
	r.init(ctx, c.pick(), opCall, o.fromSequence)
	r.cancels = true
	timeout := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok && o.pipe.Timeout == 0 {
		// A deadline that has passed is found by submit or by the first wait.
		timeout = max(time.Until(deadline), time.Millisecond)
	} else {
		r.timeout = timeoutUnits(cmp.Or(o.pipe.Timeout, defaultTimeout))
	}
	message.Headers = c.headersUnder(ctx, message.Headers)
	large := r.takeRoom(&c.buffers, len(message.Payload))
	r.body = appendEnqueue(r.body, fieldOf(opCall), queue, &message, o, timeout)
	if large {
		r.lend(&c.buffers)
	}
	r.repeatable = o.key != ""
	err := error(nil)
	if ctx.Err() != nil {
		err = contextError(ctx, "before it was sent", OutcomeNotApplied)
	} else {
		err = r.link.submit(ctx, &r.operation)
	}
	if err != nil {
		r.finish(err)
	}
	return call
}

// Receipt waits until the message is stored. The error says why it was not.
func (c *Call) Receipt() (Receipt, error) {
	c.wait(wantReceipt)
	receipt, err := c.receipt, c.err
	c.mu.Unlock()
	if receipt == nil {
		return Receipt{}, c.explain(err)
	}
	r, err := decodeReceipt(receipt)
	return r, c.explain(err)
}

// One waits for the pipe's end and returns the last reply: the value of a request that has one answer. Replies before it
// (progress, or what an earlier attempt left) are dropped. The error is an [*EndError] if the pipe ended otherwise than
// OK, [ErrNoReply] if it ended without any reply, an [*Error] if the message was refused or the context ended.
func (c *Call) One() (Reply, error) {
	reply, err := c.last()
	return reply, c.explain(err)
}

// Replies gives the replies as they come. It ends after the last one when the pipe ends OK, else with the error and an
// empty reply; errors are as for One. Breaking off leaves the call as it is: go on with another Replies, or Cancel.
func (c *Call) Replies() iter.Seq2[Reply, error] {
	return func(yield func(Reply, error) bool) {
		for {
			reply, ok, err := c.take()
			if err != nil {
				yield(Reply{}, c.explain(err))
				return
			}
			if !ok || !yield(reply, nil) {
				return
			}
		}
	}
}

// Handle waits for the receipt and returns the receive handle of the call's pipe: the future, to be passed on.
func (c *Call) Handle() (handles.Handle, error) {
	receipt, err := c.Receipt()
	return receipt.ReceiveHandle, err
}

// Future waits for the receipt and returns the call's answer as a future, which others may await too. When the call's
// context ends, the pipe is cancelled for the future as well. So a handler that wants to hand on an answer that comes
// later does not call: it enqueues [WithPipe], and passes on the receipt's ReceiveHandle.
func (c *Call) Future() (*Future[Reply], error) {
	handle, err := c.Handle()
	if err != nil {
		return nil, err
	}
	return NewFuture[Reply](c.client, handle), nil
}

// Cancel ends the call's pipe for all its readers, if it has not ended yet. It does not wait: the end, with
// [ErrCancelled], comes as any other.
func (c *Call) Cancel() { c.cancelPipe("cancelled by the caller") }

// explain says of an error which call it was.
func (c *Call) explain(err error) error {
	if err == nil || errors.Is(err, ErrNoReply) {
		return err
	}
	return fmt.Errorf("call %q: %w", c.queue, err)
}
