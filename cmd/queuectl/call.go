package main

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
)

type callCmd struct {
	Queue   string `arg:"" help:"The queue; made if it does not exist."`
	Payload string `arg:"" help:"The payload, or - for standard input."`
	From    uint64 `placeholder:"N" help:"Begin with a later reply, for a call repeated with its --idempotency-key."`
	Raw     bool   `help:"Write payloads as they are, without a line's end after each."`
	contentFlags
	storeFlags
	pipeFlags
	Grace time.Duration `placeholder:"TIME" help:"How long the call survives a lost connection. Default 10s."`
	Keep  bool          `help:"Leave the message in its queue when this program is gone for good."`
}

// Help is shown by call --help.
func (callCmd) Help() string {
	return "With --timeout the pipe ends EXPIRED then, exit code 3. Ctrl-C cancels: a waiting message is withdrawn, and a " +
		"consumer that works on it is told.\n\n" + jsonHelp("receipt", "reply", "end")
}

// timeoutMargin is how much longer than the server queuectl waits for a pipe's deadline.
const timeoutMargin = 2 * time.Second

// Run calls.
func (c *callCmd) Run(a *app) error {
	payload, err := a.payload(c.Payload)
	if err != nil {
		return err
	}
	pipe := c.pipeFlags.options()
	pipe.DisconnectGrace, pipe.KeepIfAbandoned = c.Grace, c.Keep
	options := append(c.storeFlags.options(), client.WithPipe(pipe), client.WithFromSequence(c.From))
	if err := a.connect(); err != nil {
		return err
	}
	ctx := a.ctx
	if c.Timeout > 0 {
		// The server ends the pipe; this is for when it does not answer any more.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout+timeoutMargin)
		defer cancel()
	}
	call := a.client.Call(ctx, c.Queue, c.message(payload), options...)
	receipt, err := call.Receipt()
	if err != nil {
		return err
	}
	if a.JSON {
		a.emit(newReceiptRecord(c.Queue, receipt))
	} else if a.talkative() {
		a.remarks(c.Queue, receipt)
	}
	return a.replies(call.Replies(), receipt.ReceiveHandle, c.Raw)
}

// replies prints replies as they come, and the end.
func (a *app) replies(replies iter.Seq2[client.Reply, error], handle handles.Handle, raw bool) error {
	waiting := func() func() { return a.watch(func(ctx context.Context) string { return a.why(ctx, handle) }) }
	last := uint64(0)
	stop := waiting()
	defer func() { stop() }()
	for reply, err := range replies {
		stop()
		if err != nil {
			var end *client.EndError
			if a.JSON && errors.As(err, &end) {
				a.emit(newEndRecord(end))
			}
			return err
		}
		last = reply.Sequence
		a.reply(reply, raw)
		stop = waiting()
	}
	if a.JSON {
		a.emit(&endRecord{Type: "end", Reason: string(client.EndOK), LastSequence: last})
	}
	return nil
}

func (a *app) reply(r client.Reply, raw bool) {
	switch {
	case a.JSON:
		a.emit(newReplyRecord(r))
	case raw:
		a.print(string(r.Payload))
	default:
		a.print(line(r.Payload) + handleLines(r.Handles))
	}
}
