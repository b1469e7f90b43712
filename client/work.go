package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// WorkConfig says how to work. Zero fields have their defaults.
type WorkConfig struct {
	// Concurrency is how many handlers run at a time. Default 1.
	Concurrency int
	// Prefetch is how many more deliveries are held ready, for handlers so quick that the way to the server counts.
	// Default 0: what cannot be worked on is left to others.
	Prefetch int
	// LeaseTime is how long a delivery stays with this program if that dies; while a handler runs, its lease is
	// extended. Default: the queue's, else 30 s. 1 s to 12 h.
	LeaseTime time.Duration
	// ConsumerID names the consumer. Default: random. At most 64 characters of [A-Za-z0-9._-].
	ConsumerID string
	// DisconnectGrace is how long deliveries wait when the connection is lost. Default 0: they go to others at once. At
	// most 1 h.
	DisconnectGrace time.Duration
	// DrainGrace is how long running handlers may go on when Work is to end; then their contexts end. Default 20 s.
	DrainGrace time.Duration
	// MaxDeliveries and IdleTime end Work as they end a [Consumer]. Default: never.
	MaxDeliveries int
	IdleTime      time.Duration
}

// Work consumes queues and runs handler for each delivery, until ctx ends. Then it drains: no more deliveries are taken,
// running handlers have their grace to finish, what was not begun is given back, and all of them have returned when
// Work does. It returns nil then, or when MaxDeliveries or IdleTime ended it; an error wrapping [ErrDraining] if
// handlers had to be stopped; or why consuming failed. A lost connection does not end Work.
func (c *Client) Work(ctx context.Context, config WorkConfig, handler Handler, queues ...string) error {
	w := &worker{client: c, handler: handler, limit: max(config.Concurrency, 1)}
	// Handlers outlive ctx by the grace, but keep its values.
	handlers, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(context.Canceled)
	s := newConsumer(handlers, c, ConsumeConfig{
		MaxInFlight: w.limit + max(config.Prefetch, 0), LeaseTime: config.LeaseTime, ConsumerID: config.ConsumerID,
		DisconnectGrace: config.DisconnectGrace, MaxDeliveries: config.MaxDeliveries, IdleTime: config.IdleTime,
	}, queues)
	s.take = w.take
	w.consumer = s
	defer w.close()
	if err := s.openFor(ctx); err != nil {
		return err
	}
	select {
	case <-s.over:
		w.running.Wait()
		if err := s.failure(); !errors.Is(err, ErrStopped) {
			return fmt.Errorf("work on %q: %w", queues, err)
		}
		return nil
	case <-ctx.Done():
	}
	return w.drain(stop, cmp.Or(config.DrainGrace, 20*time.Second))
}

// worker runs the handlers of one Work.
type worker struct {
	client   *Client
	consumer *Consumer
	handler  Handler
	limit    int
	running  sync.WaitGroup // the handlers' goroutines

	mu       sync.Mutex
	queue    []*Delivery // from head on: not begun
	head     int
	active   int         // goroutines
	stopping bool        // nothing more is begun
	extender *time.Timer // nil while nothing is held
}

// take is called by run with each delivery.
func (w *worker) take(d *Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head > len(w.queue)/2 && len(w.queue) == cap(w.queue) { // shift instead of growing
		n := copy(w.queue, w.queue[w.head:])
		clear(w.queue[n:])
		w.queue, w.head = w.queue[:n], 0
	}
	w.queue = append(w.queue, d)
	if w.extender == nil {
		w.extender = time.AfterFunc(w.consumer.extendEvery(), w.extend)
	}
	if w.active < w.limit {
		w.active++
		w.running.Add(1)
		go w.run()
	}
}

// run works on what there is, then ends.
func (w *worker) run() {
	defer w.running.Done()
	for {
		w.mu.Lock()
		if w.head == len(w.queue) {
			w.queue, w.head = w.queue[:0], 0
			w.active--
			w.mu.Unlock()
			return
		}
		d := w.queue[w.head]
		w.queue[w.head] = nil
		w.head++
		stopping := w.stopping
		w.mu.Unlock()
		w.handle(d, stopping)
	}
}

// handle runs the handler for one delivery and settles it, without waiting for the answer to that.
func (w *worker) handle(d *Delivery, stopping bool) {
	var answer *Answer
	var err error
	switch {
	case stopping:
		w.settle(d, settled(SettleRelease))
		return
	case d.ended() != nil: // nobody waits, or it is lost: not worth beginning
	default:
		answer, err = w.call(d)
		if lost := d.flushStream(); lost != nil && err == nil {
			answer, err = nil, lost
		}
	}
	w.settle(d, judge(d, answer, err))
}

// call calls the handler and catches its panic.
func (w *worker) call(d *Delivery) (answer *Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			answer, err = nil, &panicError{v}
			w.client.log.Error("handler panicked", "queue", d.Queue, "message", d.MessageID, "attempt", d.Attempt,
				"type", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		}
	}()
	return w.handler(d.Context(), d)
}

// settle submits the reply or the settlement of a delivery.
func (w *worker) settle(d *Delivery, j judgement) {
	if j.nothing() || !d.settling.CompareAndSwap(false, true) {
		d.release()
		return
	}
	e := &d.ending
	e.d, e.w = d, w
	if j.replies {
		e.operation = operation{sink: e, kind: opReply, leased: true, patient: true}
		e.answered = j.answer != nil
		if len(d.Headers) > 0 { // else the context carries nothing
			j.answer = w.client.answerUnder(d.Context(), j.answer)
		}
		large := j.answer != nil && e.takeRoom(&w.client.buffers, len(j.answer.Payload))
		if !large {
			e.takeBody()
		}
		reply := replyRequest{answer: j.answer, err: j.err, to: d.replyTo, lease: d.lease, ack: true}
		e.body = appendReply(e.body, fieldOf(opReply), &reply)
		if large {
			e.lend(&w.client.buffers)
		}
	} else {
		e.operation = operation{sink: e, kind: opSettle, leased: true, patient: true}
		e.takeBody()
		e.body = d.appendSettle(e.body, &j.settle)
	}
	if err := w.consumer.link.submitNow(&e.operation); err != nil {
		e.settled(fromStatus(err, nil))
	}
}

// ending is the operation with which Work settles a delivery, of which it is part. Nobody waits for its answer.
type ending struct {
	operation
	d        *Delivery
	w        *worker
	answered bool // it is a reply with an answer
}

// result implements sink.
func (e *ending) result(r *result) {
	refusal := r.failure()
	if refusal != nil && r.err == nil {
		if d, again := refusal.repeatAfter(); again { // meanwhile the lease is extended as before
			time.AfterFunc(spread(d), e.repeat)
			return
		}
	}
	e.freeBody()
	if refusal == nil || !e.answered || r.err != nil || leaseIsLost(refusal) {
		e.settled(refusal)
		return
	}
	// The answer is too large, say: its waiter shall know that there will be none.
	e.w.client.log.Warn("answer was refused", "queue", e.d.Queue, "message", e.d.MessageID, "error", refusal)
	e.d.settling.Store(false)
	e.answered = false
	e.w.settle(e.d, judgement{replies: true, err: &Error{Code: refusal.Code, Reason: refusal.Reason,
		Message: "the worker's answer was refused: " + refusal.Message}})
}

// repeat submits it once more.
func (e *ending) repeat() {
	if err := e.w.consumer.link.submitNow(&e.operation); err != nil {
		e.freeBody()
		e.settled(fromStatus(err, nil))
	}
}

// resume implements sink.
func (*ending) resume(bool) []byte { return nil } // unreachable: its answer is its last result

// settled keeps the books. What could not be settled goes to somebody else when its lease ends.
func (e *ending) settled(err *Error) {
	d := e.d
	if err != nil {
		e.w.client.log.Warn("delivery was not settled", "queue", d.Queue, "message", d.MessageID, "attempt", d.Attempt, "error", err)
		d.end(ErrLeaseLost)
	}
	d.consumer.forget(d)
	d.release()
}

// drain ends the work: see Work.
func (w *worker) drain(stop context.CancelCauseFunc, grace time.Duration) error {
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(w.consumer.ctx, grace)
	defer cancel()
	stopped := make(chan struct{})
	go func() { // ends with ctx at the latest
		defer close(stopped)
		if err := w.consumer.Stop(ctx); err != nil && ctx.Err() == nil {
			w.client.log.Warn("consumer could not be stopped", "consumer", w.consumer.ID(), "error", err)
			w.consumer.Close()
		}
	}()
	var err error
	select {
	case <-w.consumer.over: // the server ends it when all is settled
	case <-ctx.Done():
		err = fmt.Errorf("work was stopped with handlers running for over %v: %w", grace, ErrDraining)
		stop(ErrDraining)
	}
	w.running.Wait()
	cancel()
	<-stopped
	w.consumer.link.flush(closeGrace)
	return err
}

// close ends what Work began.
func (w *worker) close() {
	w.consumer.Close()
	w.running.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	if w.extender != nil {
		w.extender.Stop()
	}
}
