package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/replyq/replyq/client"
)

type consumeCmd struct {
	Queues []string      `arg:"" name:"queue" help:"The queues; made if they do not exist."`
	Max    int           `placeholder:"N" help:"Stop after so many messages. Default: 1; with --ack no limit."`
	Ack    bool          `help:"Ack each message when it is printed."`
	Hold   bool          `help:"Keep the leases until the messages are settled elsewhere (queuectl reply --lease … --ack), or until Ctrl-C."`
	Wait   time.Duration `placeholder:"TIME" help:"Stop when no message came for so long. Default: wait for ever."`
	Lease  time.Duration `placeholder:"TIME" help:"Lease time, 1s to 12h. Default: the queue's, else 30s."`
	Raw    bool          `help:"Write payloads alone, as they are."`
	consumerFlags
}

// Help is shown by consume --help.
func (consumeCmd) Help() string {
	return "Without --ack and --hold the messages are given back at the end, as if nothing had been. An ack without a reply " +
		"ends the pipe of a waiter with BROKEN: use work, or --hold and reply, to answer.\n\n" + jsonHelp("delivery")
}

// Run consumes.
func (c *consumeCmd) Run(a *app) error {
	if c.Ack && c.Hold {
		return usageError("give one of --ack and --hold")
	}
	if c.Max < 0 {
		return usageError("--max must not be negative")
	}
	config := client.ConsumeConfig{
		LeaseTime: c.Lease, MaxInFlight: 1, MaxDeliveries: c.Max, ConsumerID: c.ID, DisconnectGrace: c.Grace,
	}
	if !c.Ack {
		config.MaxDeliveries = max(c.Max, 1)
		config.MaxInFlight = config.MaxDeliveries
	}
	if err := a.connect(); err != nil {
		return err
	}
	// The consumer outlives the first Ctrl-C, so that what it has can be settled.
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.ctx))
	defer cancel()
	defer context.AfterFunc(a.force, cancel)()
	consumer, err := a.client.Consume(ctx, config, c.Queues...)
	if err != nil {
		return err
	}
	defer consumer.Close()
	held, err := c.print(ctx, a, consumer, config.MaxDeliveries)
	if err == nil && c.Hold {
		_, err = c.next(a, consumer, held, 0) // there are no more: it returns when all are settled
	}
	for _, d := range held {
		_ = d.Release(ctx) // else it returns when the consumer has left, or was settled elsewhere
	}
	if a.interrupted() {
		return nil
	}
	return err
}

// print prints messages until there are enough or none came for long enough. It returns those that are not settled.
func (c *consumeCmd) print(ctx context.Context, a *app, consumer *client.Consumer, limit int) (held []*client.Delivery, err error) {
	for n := 0; limit == 0 || n < limit; n++ {
		d, err := c.next(a, consumer, held, c.Wait)
		if d == nil {
			return held, err
		}
		switch {
		case c.Ack:
			// Printed first: what is acked is gone.
			a.delivery(d, "ack", c.Raw)
			if err := d.Ack(ctx); err != nil {
				return held, err
			}
			if d.HasReplyTo() && !a.JSON {
				a.note("message %s had a reply_to: acked without a reply, its pipe ends BROKEN", d.MessageID)
			}
		case c.Hold:
			held = append(held, d)
			a.delivery(d, "none", c.Raw)
		default:
			held = append(held, d)
			a.delivery(d, "release", c.Raw)
		}
	}
	return held, nil
}

// next waits for a message, at most for wait if that is not 0, and extends the leases that are held meanwhile. It returns
// none and no error when no more will come, or none came in time.
func (c *consumeCmd) next(
	a *app, consumer *client.Consumer, held []*client.Delivery, wait time.Duration,
) (*client.Delivery, error) {
	what := "messages in " + strings.Join(c.Queues, ", ")
	if c.Hold && len(held) > 0 {
		what += fmt.Sprintf(", or for %d messages to be settled", len(held))
	}
	defer a.watch(func(context.Context) string { return what })()
	every := 10 * time.Second // a third of the usual lease time
	if c.Lease > 0 {
		every = c.Lease / 3
	}
	for begin := time.Now(); ; {
		slice := every
		if wait > 0 {
			slice = min(every, wait-time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(a.ctx, slice)
		d, err := consumer.Next(ctx)
		cancel()
		switch {
		case errors.Is(err, client.ErrStopped):
			return nil, nil
		case err == nil, a.ctx.Err() != nil, !errors.Is(err, context.DeadlineExceeded):
			return d, err
		case wait > 0 && time.Since(begin) >= wait:
			return nil, nil
		}
		for _, d := range held {
			// One that was settled elsewhere cannot be extended; the others shall be all the same.
			if err := d.Extend(a.ctx, c.Lease); errors.Is(err, client.ErrWaiterGone) && c.Hold {
				a.note("message %s: nobody waits for its answer any more", d.MessageID)
			}
		}
	}
}

// delivery prints a message.
func (a *app) delivery(d *client.Delivery, settled string, raw bool) {
	switch {
	case a.JSON:
		a.emit(newDeliveryRecord(d, settled))
		return
	case raw:
		a.print(string(d.Payload))
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "message  %s\nqueue    %s\nattempt  %d\n", d.MessageID, d.Queue, d.Attempt)
	if settled == "none" {
		fmt.Fprintf(&b, "lease    %s\n", d.Lease().Text())
	}
	if d.HasReplyTo() {
		fmt.Fprintf(&b, "reply_to %s\n", d.ReplyTo().Text())
	}
	if !d.Deadline.IsZero() {
		fmt.Fprintf(&b, "deadline %s\n", d.Deadline.Local().Format(time.RFC3339))
	}
	if d.ContentType != "" {
		fmt.Fprintf(&b, "content  %s\n", d.ContentType)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Headers)) {
		fmt.Fprintf(&b, "header   %s: %s\n", key, d.Headers[key])
	}
	b.WriteString(handleLines(d.Handles))
	if len(d.EndedHandles) > 0 {
		fmt.Fprintf(&b, "ended    %s\n", strings.Join(d.EndedHandles, ", "))
	}
	a.print(b.String() + "\n" + line(d.Payload) + "\n")
}
