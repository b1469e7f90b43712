package simulation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/history"
)

// A job is what a message asks a worker to do.
type job struct {
	ID string
	Do string
	N  int    // how much
	To string // the queue where the rest is done
}

func (j job) message() client.Message {
	b, _ := json.Marshal(j) // it can be encoded
	return client.Message{Payload: b}
}

// part is the payload of one of a job's replies.
func (j job) part(i int) []byte { return fmt.Append(nil, j.ID, " ", i) }

// large is the value of a job of several replies.
func (j job) large() []byte { return bytes.Repeat([]byte(j.ID+" "), 60*j.N) }

// work works on all queues for one client, until ctx ends: by Work, or with a consumer of its own.
func (w *world) work(ctx context.Context, i int, c *client.Client) {
	r := w.random(fmt.Sprint("worker ", i))
	grace := []time.Duration{0, 5 * time.Second}[r.IntN(2)]
	if r.IntN(3) > 0 {
		err := c.Work(ctx, client.WorkConfig{Concurrency: 1 + r.IntN(5), Prefetch: r.IntN(3), DisconnectGrace: grace}, w.handle, queues...)
		if err != nil && !over(err) {
			w.t.Errorf("Work() = %v", err)
		}
		return
	}
	s, err := c.Consume(ctx, client.ConsumeConfig{MaxInFlight: 1 + r.IntN(5), DisconnectGrace: grace}, queues...)
	if err != nil {
		w.t.Errorf("Consume() = %v", err)
		return
	}
	for d, err := range s.Deliveries(ctx) {
		switch {
		case err == nil:
			w.alone(d)
		case !over(err):
			w.t.Errorf("Next() = %v", err)
		}
	}
}

// alone handles a delivery without Work, and settles what the handler left to it.
func (w *world) alone(d *client.Delivery) {
	if answer, err := w.handle(d.Context(), d); err != nil {
		done := w.h.settles(d, history.Retry)
		result, err := d.Settle(context.WithoutCancel(d.Context()), client.Settlement{Action: client.SettleRetry, Reason: err.Error()})
		o := history.OutputOf(err)
		o.Refused = o.Refused || result.Already // by a retry of the handler whose answer it did not await
		done(o)
	} else if answer != nil {
		w.t.Error("unreachable: handlers with an answer know by whom they are called")
	}
}

// handle does a job. It settles the delivery by itself, and gives it back if that fails.
func (w *world) handle(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
	var j job
	if err := json.Unmarshal(d.Payload, &j); err != nil {
		w.t.Errorf("message %s has the payload %q", d.MessageID, d.Payload)
	}
	w.h.delivered(d, j)
	if err := w.do(ctx, d, j); err != nil {
		w.h.tell("job %s attempt %d: %v", j.ID, d.Attempt, err)
		w.mayBe(d, j, history.Retry) // Work does that, or acks, when we have returned
		if errors.Is(context.Cause(ctx), client.ErrWaiterGone) {
			w.mayBe(d, j, history.Ack)
		}
		return nil, client.Retry(err, 0)
	}
	return nil, nil
}

// mayBe notes what others may do with a delivery from now on.
func (w *world) mayBe(d *client.Delivery, j job, kind string) {
	w.h.settles(d, kind)(history.Output{Unknown: true})
	if kind == history.Ack { // a retry does nothing to the pipe
		w.h.pipe(j.ID, history.PipeInput{Kind: kind, Attempt: d.Attempt})(history.Output{Unknown: true})
	}
}

// do does what a job asks for.
func (w *world) do(ctx context.Context, d *client.Delivery, j job) error {
	switch j.Do {
	case "echo":
		return w.answer(ctx, d, j, client.Answer{Payload: j.part(0)})
	case "retry":
		if d.Failures == 0 {
			done := w.h.settles(d, history.Retry)
			err := d.Retry(ctx, time.Duration(j.N)*10*time.Millisecond, "not yet")
			done(history.OutputOf(err))
			return err
		}
		return w.answer(ctx, d, j, client.Answer{Payload: j.part(0)})
	case "stream":
		for i := range j.N {
			if err := w.more(ctx, d, j, j.part(i)); err != nil {
				return err
			}
		}
		return w.answer(ctx, d, j, client.Answer{Payload: j.part(j.N)})
	case "large":
		out := d.NewWriter(ctx, client.WriterOptions{PartSize: 100})
		if _, err := out.Write(j.large()); err != nil {
			return err
		}
		done := w.h.settles(d, history.Ack)
		err := out.Close()
		done(history.OutputOf(err))
		return err
	case "fail":
		settled, replied := w.h.settles(d, history.Ack), w.h.pipe(j.ID, history.PipeInput{Kind: history.Fail, Attempt: d.Attempt})
		outcome, err := d.ReplyError(ctx, &client.Error{Code: 9, Reason: "SIMULATED", Message: j.ID})
		w.note(outcome, err, settled, replied)
		return err
	case "ack", "reject":
		settled, replied := w.h.settles(d, j.Do), w.h.pipe(j.ID, history.PipeInput{Kind: j.Do, Attempt: d.Attempt})
		settle := d.Ack
		if j.Do == "reject" {
			settle = func(ctx context.Context) error { return d.Reject(ctx, "simulated") }
		}
		err := settle(ctx)
		settled(history.OutputOf(err))
		replied(history.OutputOf(err))
		return err
	case "hang":
		<-ctx.Done()
		return context.Cause(ctx)
	default:
		return w.passOn(ctx, d, j)
	}
}

// passOn does the jobs of which somebody else does the rest.
func (w *world) passOn(ctx context.Context, d *client.Delivery, j job) error {
	rest := job{ID: j.ID + "/rest", Do: "echo"}
	switch j.Do {
	case "forward":
		m := d.Message()
		m.Payload = rest.message().Payload
		done := w.h.settles(d, history.Ack)
		_, err := d.Settle(ctx, client.Settlement{Messages: []client.Item{{Queue: j.To, Message: m}}})
		done(history.OutputOf(err))
		return err
	case "splice", "future":
		receipt, err := d.Client().Enqueue(ctx, j.To, rest.message(), client.WithPipe(client.PipeOptions{Timeout: long}))
		if err != nil {
			return err
		}
		if j.Do == "future" {
			return w.answer(ctx, d, j, client.Answer{Handles: map[string]handles.Handle{"future": receipt.ReceiveHandle}})
		}
		done := w.h.settles(d, history.Ack)
		_, err = d.Splice(ctx, receipt.ReceiveHandle)
		done(history.OutputOf(err))
		return err
	case "nested":
		if _, err := d.Client().Reply(ctx, d.Handles["nested"], client.Answer{Payload: j.part(1)}, client.WithReplyID(j.ID)); err != nil {
			return err
		}
		return w.answer(ctx, d, j, client.Answer{Payload: j.part(0)})
	default:
		w.t.Errorf("job %s is %q", j.ID, j.Do)
		return nil
	}
}

func (w *world) more(ctx context.Context, d *client.Delivery, j job, payload []byte) error {
	done := w.h.pipe(j.ID, history.PipeInput{Kind: history.More, Attempt: d.Attempt})
	outcome, err := d.ReplyMore(ctx, client.Answer{Payload: payload})
	w.note(outcome, err, done)
	if err == nil && outcome.Gone() && d.HasReplyTo() {
		return client.ErrWaiterGone
	}
	return err
}

func (w *world) answer(ctx context.Context, d *client.Delivery, j job, a client.Answer) error {
	settled, replied := w.h.settles(d, history.Ack), w.h.pipe(j.ID, history.PipeInput{Kind: history.Last, Attempt: d.Attempt})
	outcome, err := d.Reply(ctx, a)
	w.note(outcome, err, settled, replied)
	return err
}

// note notes how a reply went, wherever it counts.
func (w *world) note(outcome client.ReplyOutcome, err error, where ...func(history.Output)) {
	o := history.OutputOf(err)
	if err == nil {
		o.Status, o.Reason, o.Last = outcome.Status, outcome.Reason, outcome.Sequence
	}
	for _, done := range where {
		done(o)
	}
}
