package faultload

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/history"
)

// inFlight is how much a consumer works on at a time.
const inFlight = 32

// work consumes from a queue until the work is to end.
func (l *Load) work(c *client.Client, queue, name string) {
	var all sync.WaitGroup
	defer all.Wait()
	for l.working.Err() == nil {
		consumer, err := c.Consume(l.working, client.ConsumeConfig{
			MaxInFlight: inFlight, LeaseTime: 10 * time.Second, ConsumerID: name, DisconnectGrace: l.config.Grace}, queue)
		if err != nil {
			l.failed("Consume", err)
			pause(l.working)
			continue
		}
		for { // in one goroutine, which sees them in the order in which they come
			d, err := consumer.Next(l.working)
			if err != nil {
				l.failed("Next", err)
				break // the consumer has ended; if it was not for us, there is another one
			}
			id, do, err := history.Parse(d.Payload)
			if err != nil {
				l.history.Note(history.Event{What: history.Corrupt, Queue: queue, Message: d.MessageID, By: name, Reason: err.Error()})
				all.Go(func() { _ = d.Reject(l.working, "corrupt") }) // the test has failed already
				continue
			}
			l.history.Note(history.Event{What: history.Delivered, ID: id, Queue: d.Queue, Message: d.MessageID, Attempt: d.Attempt, By: name})
			all.Go(func() { l.handle(&job{delivery: d, id: id, do: do}) })
		}
		consumer.Close()
	}
}

// A job is a delivery that is worked on.
type job struct {
	delivery *client.Delivery
	id       history.ID
	do       string
}

// handle does what a job asks for, as often as it takes to learn how that went.
func (l *Load) handle(j *job) {
	switch d := j.delivery; {
	case j.do == doRetry && d.Failures == 0:
		l.settle(j, history.Retry, func() error { return d.Retry(l.working, 0, "not yet") })
	case j.do == doForward:
		l.forward(j)
	case j.do == doFuture:
		l.future(j)
	case j.do == doNested && !l.nested(j):
	default:
		l.answer(j, nil)
	}
}

// answer replies and acks.
func (l *Load) answer(j *job, with map[string]handles.Handle) {
	d := j.delivery
	l.settle(j, history.Ack, func() error {
		_, err := d.Reply(l.working, client.Answer{Payload: history.Answer(d.Payload), Handles: with})
		return err
	})
}

// errAlready says that the delivery had been settled before, by a try whose outcome was not known.
var errAlready = &client.Error{Message: "settled already", Outcome: client.OutcomeNotApplied}

// settle settles, and does so again until the outcome is known or the lease lost.
func (l *Load) settle(j *job, kind string, do func() error) {
	d := j.delivery
	for l.working.Err() == nil {
		settled := l.history.Begin(history.Event{What: history.Settling, ID: j.id, Queue: d.Queue, Message: d.MessageID, Attempt: d.Attempt, Kind: kind})
		err := do()
		settled(history.Event{What: history.Settled, Output: history.OutputOf(err)})
		l.failed(kind, err)
		if err == nil || leaseIsOver(err) {
			return
		}
		pause(l.working)
	}
}

func leaseIsOver(err error) bool {
	return errors.Is(err, client.ReasonLeaseStale) || errors.Is(err, client.ReasonLeaseUnknown) || errors.Is(err, client.ErrSettled) ||
		errors.Is(err, errAlready)
}

// derived makes a message out of a job.
func (j *job) derived(what string) (history.ID, client.Message) {
	id, m := j.id.Derived(what), j.delivery.Message()
	m.Payload = history.Payload(id, doAnswer, len(m.Payload))
	return id, m
}

// forward passes the job's message on, and with it who waits.
func (l *Load) forward(j *job) {
	id, m := j.derived(doForward)
	l.settle(j, history.Ack, func() error {
		sent := l.history.Begin(history.Event{What: history.Sent, ID: id, Queue: onward})
		result, err := j.delivery.Settle(l.working, client.Settlement{Messages: []client.Item{{Queue: onward, Message: m}}})
		if err == nil && result.Already {
			err = errAlready
		}
		var receipt client.Receipt
		if err == nil {
			receipt = result.Receipts[0]
		}
		sent(acceptance(receipt, err))
		return err
	})
}

// future answers with the handle of an answer to come.
func (l *Load) future(j *job) {
	id, m := j.derived(doFuture)
	m.ReplyTo = handles.Handle{}
	var receipt client.Receipt
	if !l.untilDone(func(ctx context.Context) (err error) {
		sent := l.history.Begin(history.Event{What: history.Sent, ID: id, Queue: onward})
		receipt, err = j.delivery.Client().Enqueue(ctx, onward, m,
			client.WithIdempotencyKey(id.String()), client.WithPipe(client.PipeOptions{Timeout: long}))
		sent(acceptance(receipt, err))
		return err
	}) {
		return
	}
	l.answer(j, map[string]handles.Handle{doFuture: receipt.ReceiveHandle})
}

// nested replies through the handle in the message.
func (l *Load) nested(j *job) bool {
	d := j.delivery
	id, m := j.derived(doNested)
	return l.untilDone(func(ctx context.Context) error {
		_, err := d.Client().Reply(ctx, d.Handles[doNested], client.Answer{Payload: history.Answer(m.Payload)}, client.WithReplyID(id.String()))
		return err
	})
}

// untilDone does something that may be done again until it is done, or the work ends.
func (l *Load) untilDone(do func(context.Context) error) bool {
	for l.working.Err() == nil {
		err := do(l.working)
		if err == nil {
			return true
		}
		l.failed("an operation of a worker", err)
		pause(l.working)
	}
	return false
}
