package client

import (
	"context"
	"time"
)

// Context returns a context that ends when there is no sense in working on: with the cause [ErrWaiterGone] when nobody
// waits for the answer any more, with [ErrLeaseLost] when somebody else may have the message, with a deadline at the
// delivery's, and when the consumer ends. Handlers of Work get it.
//
// It has what came in the message's headers, such as the trace context, see [WithPropagator].
func (d *Delivery) Context() context.Context {
	return d.consumer.client.ContextOf(deliveryContext{d}, d.Headers)
}

// deliveryContext is a delivery's context. Most handlers never ask it anything but its deadline, so what it costs (a
// cancel, a timer) is made only when it is asked.
type deliveryContext struct{ d *Delivery }

// Deadline implements context.Context. It is by this machine's clock.
func (c deliveryContext) Deadline() (time.Time, bool) {
	outer, ok := c.d.consumer.ctx.Deadline()
	own := c.d.localDeadline()
	if own.IsZero() || ok && outer.Before(own) {
		return outer, ok
	}
	return own, true
}

// Done implements context.Context.
func (c deliveryContext) Done() <-chan struct{} { return c.d.realContext().Done() }

// Err implements context.Context.
func (c deliveryContext) Err() error { return c.d.realContext().Err() }

// Value implements context.Context. It has to go through the real context, which package context looks for that way.
func (c deliveryContext) Value(key any) any { return c.d.realContext().Value(key) }

// localDeadline is the deadline by this machine's clock, zero if there is none.
func (d *Delivery) localDeadline() time.Time {
	if d.Deadline.IsZero() {
		return time.Time{}
	}
	return d.Deadline.Add(-d.consumer.link.clockSkew())
}

// realContext makes the context.
func (d *Delivery) realContext() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx != nil {
		return d.ctx
	}
	d.ctx, d.fail = context.WithCancelCause(d.consumer.ctx)
	d.stop = func() { d.fail(context.Canceled) }
	if deadline := d.localDeadline(); !deadline.IsZero() {
		ctx, stop := context.WithDeadlineCause(d.ctx, deadline, ErrWaiterGone)
		fail := d.fail
		d.ctx, d.stop = ctx, func() { stop(); fail(context.Canceled) }
	}
	if d.cause != nil {
		d.fail(d.cause)
	}
	return d.ctx
}

// end ends the context with a cause, if it has not ended.
func (d *Delivery) end(cause error) {
	d.mu.Lock()
	if d.cause == nil {
		d.cause = cause
	}
	fail := d.fail
	d.mu.Unlock()
	if fail != nil {
		fail(cause)
	}
}

// ended is the cause the context ended with, nil while it has not. It makes no context.
func (d *Delivery) ended() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause == nil && d.ctx != nil {
		return context.Cause(d.ctx)
	}
	return d.cause
}

// release frees what the context holds, when the delivery is settled.
func (d *Delivery) release() {
	d.mu.Lock()
	stop := d.stop
	d.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// clockSkew is the server's clock less ours, as of the last greeting.
func (l *link) clockSkew() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.skew
}
