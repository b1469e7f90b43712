package faultload

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/history"
)

// What a worker is asked to do; the rest of what there is stands in draw.
const (
	doAnswer  = "answer"
	doRetry   = "retry" // and answer afterwards
	doForward = "forward"
	doFuture  = "future"
	doNested  = "nested"
)

// A request is what a producer sends.
type request struct {
	id    history.ID
	queue string
	do    string
	waits bool
	size  int
	keyed bool
}

// draw draws a request. The shares are those that the package's comment names.
func draw(r *rand.Rand, id history.ID) request {
	q := request{id: id, queue: Queues()[r.IntN(3)], do: doAnswer, waits: true, keyed: r.IntN(4) == 0,
		size: int(16 * math.Pow(1024, r.Float64()))}
	switch n := r.IntN(100); {
	case n < 60:
	case n < 80:
		q.waits = false
	case n < 90:
		q.do, q.waits = doRetry, n < 87
	default:
		q.do = []string{doForward, doFuture, doNested}[n%3]
	}
	return q
}

func (q request) options(grace time.Duration) []client.EnqueueOption {
	var options []client.EnqueueOption
	if q.keyed {
		options = append(options, client.WithIdempotencyKey(q.id.String()))
	}
	if q.waits {
		options = append(options, client.WithPipe(client.PipeOptions{Timeout: long, DisconnectGrace: grace}))
	}
	return options
}

// produce sends one request after the other. Answers are waited for by others, up to the window.
func (l *Load) produce(c *client.Client, name string, r *rand.Rand) {
	window := make(chan struct{}, l.config.Window)
	turn, stop := l.pace()
	defer stop()
	for counter := 1; ; counter++ {
		select {
		case <-l.stop:
			return
		case window <- struct{}{}:
		}
		select {
		case <-l.stop:
			return
		case <-turn:
		}
		q := draw(r, history.ID{Producer: name, Counter: counter})
		if q.do == doNested && l.config.Lossy {
			q.do = doFuture
		}
		if !q.waits {
			l.enqueue(c, q)
			<-window
			continue
		}
		await := l.call(c, q)
		l.waiters.Go(func() {
			defer func() { <-window }()
			await()
		})
	}
}

// pace gives the moments at which a producer may send.
func (l *Load) pace() (turn <-chan time.Time, stop func()) {
	if l.config.Pace == 0 {
		always := make(chan time.Time)
		close(always)
		return always, func() {}
	}
	ticker := time.NewTicker(l.config.Pace)
	return ticker.C, ticker.Stop
}

func (l *Load) enqueue(c *client.Client, q request) {
	ctx, cancel := l.limited(l.ctx)
	defer cancel()
	sent := l.history.Begin(history.Event{What: history.Sent, ID: q.id, Queue: q.queue})
	receipt, err := c.Enqueue(ctx, q.queue, client.Message{Payload: history.Payload(q.id, q.do, q.size)}, q.options(l.config.Grace)...)
	sent(acceptance(receipt, err))
	l.failed("Enqueue", err)
}

// acceptance is the event of a receipt, or of none.
func acceptance(receipt client.Receipt, err error) history.Event {
	switch {
	case err == nil:
		return history.Event{What: history.Accepted, Message: receipt.MessageID}
	case history.OutputOf(err).Refused:
		return history.Event{What: history.Refused, Reason: reason(err)}
	default:
		return history.Event{What: history.Unknown, Reason: reason(err)}
	}
}

// call sends a call, and returns what awaits its answer.
func (l *Load) call(c *client.Client, q request) (await func()) {
	message := client.Message{Payload: history.Payload(q.id, q.do, q.size)}
	var nested handles.Handle
	if q.do == doNested {
		ctx, cancel := l.limited(l.ctx)
		defer cancel()
		pipe, err := c.OpenPipe(ctx, client.PipeOptions{Timeout: long})
		if err != nil { // nothing was sent
			l.failed("OpenPipe", err)
			return func() {}
		}
		nested = pipe.Receive
		message.Handles = map[string]handles.Handle{"nested": pipe.Send}
	}
	sent := l.history.Begin(history.Event{What: history.Sent, ID: q.id, Queue: q.queue})
	waited := l.history.Begin(history.Event{What: history.Waits, ID: q.id, Queue: q.queue})
	ctx, cancel := l.limited(l.ctx)
	call := c.Call(ctx, q.queue, message, q.options(l.config.Grace)...)
	return func() {
		defer cancel()
		sent(acceptance(call.Receipt()))
		reply, err := lastOf(call)
		l.failed("Call", err)
		end := ended(q, message.Payload, reply, err)
		waited(end)
		switch {
		case end.Reason != ok:
		case q.do == doFuture:
			l.follow(c, q.id.Derived("future"), q.size, reply.Handles["future"])
		case q.do == doNested:
			l.follow(c, q.id.Derived("nested"), q.size, nested)
		}
	}
}

// ok is how a wait ends well.
const ok = string(client.EndOK)

// lastOf gives the last reply, if the sequences have no gap.
func lastOf(call *client.Call) (last client.Reply, err error) {
	n := uint64(0)
	for reply, err := range call.Replies() {
		if err != nil {
			return last, err
		}
		if n++; reply.Sequence != n {
			return last, fmt.Errorf("reply %d has the sequence %d", n, reply.Sequence)
		}
		last = reply
	}
	return last, nil
}

// ended is the event of an answer.
func ended(q request, payload []byte, reply client.Reply, err error) history.Event {
	end := history.Event{What: history.Ended, Reason: ok}
	want := history.Answer(payload)
	if q.do == doForward {
		want = history.Answer(history.Payload(q.id.Derived("forward"), doAnswer, q.size))
	}
	switch {
	case err != nil:
		end.Reason = reason(err)
	case string(reply.Payload) != string(want):
		end.Reason = fmt.Sprintf("a wrong answer to %s of %d bytes", q.do, len(reply.Payload))
	}
	return end
}

// follow awaits the other value that there is when the answer has come.
func (l *Load) follow(c *client.Client, id history.ID, size int, receive handles.Handle) {
	waited := l.history.Begin(history.Event{What: history.Waits, ID: id})
	ctx, cancel := l.limited(l.ctx)
	defer cancel()
	value, err := client.NewFuture[[]byte](c, receive).Await(ctx)
	l.failed("Await", err)
	end := history.Event{What: history.Ended, Reason: ok}
	want := history.Answer(history.Payload(id, doAnswer, size))
	switch {
	case err != nil:
		end.Reason = reason(err)
	case string(value) != string(want):
		end.Reason = fmt.Sprintf("a wrong value of %d bytes", len(value))
	}
	waited(end)
}

// reason is the machine-readable part of an error; without one its text, which the client makes without any payload.
func reason(err error) string {
	var end *client.EndError
	var e *client.Error
	switch {
	case errors.As(err, &end):
		return string(end.Reason)
	case errors.As(err, &e) && e.Reason != "":
		return string(e.Reason)
	default:
		return err.Error()
	}
}

// pause waits a little before something is tried again.
func pause(ctx context.Context) {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
}
