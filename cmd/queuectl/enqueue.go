package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/replyq/replyq/client"
)

type enqueueCmd struct {
	Queue   string    `arg:"" help:"The queue; made if it does not exist."`
	Payload string    `arg:"" help:"The payload, or - for standard input."`
	ReplyTo handleArg `placeholder:"HANDLE" help:"The send handle to which the answer shall go."`
	Pipe    bool      `help:"Open a pipe for the answer and print its receive handle."`
	Lines   bool      `help:"Each line of the payload is a message of its own; they are sent in batches."`
	contentFlags
	storeFlags
	pipeFlags
}

// Help is shown by enqueue --help.
func (enqueueCmd) Help() string { return jsonHelp("receipt") }

// Run enqueues.
func (c *enqueueCmd) Run(a *app) error {
	if c.set() && !c.Pipe {
		return usageError("--timeout, --parent, --capacity, --capacity-bytes and --retain are about a pipe: add --pipe")
	}
	if c.Lines && c.IdempotencyKey != "" {
		return usageError("give one of --lines and --idempotency-key: a key is for one message")
	}
	payload, err := a.payload(c.Payload)
	if err != nil {
		return err
	}
	options := c.storeFlags.options()
	if c.Pipe {
		options = append(options, client.WithPipe(c.pipeFlags.options()))
	}
	if err := a.connect(); err != nil {
		return err
	}
	if c.Lines {
		return c.batches(a, payload, options)
	}
	message := c.message(payload)
	message.ReplyTo = c.ReplyTo.handle
	receipt, err := a.client.Enqueue(a.ctx, c.Queue, message, options...)
	if err != nil {
		return err
	}
	a.receipt(c.Queue, receipt)
	return nil
}

func (a *app) receipt(queue string, r client.Receipt) {
	a.receiptLines(queue, r)
	if !a.JSON {
		a.remarks(queue, r)
	}
}

func (a *app) receiptLines(queue string, r client.Receipt) {
	if a.JSON {
		a.emit(newReceiptRecord(queue, r))
		return
	}
	lines := []string{"message  " + r.MessageID}
	if !r.ReceiveHandle.IsZero() {
		lines = append(lines, "receive  "+r.ReceiveHandle.Text(), "deadline "+r.PipeDeadline.Local().Format(time.RFC3339))
	}
	a.print(strings.Join(lines, "\n") + "\n")
}

// remarks tells what about a receipt may be a surprise.
func (a *app) remarks(queue string, r client.Receipt) {
	var remarks []string
	if r.QueueCreated {
		remarks = append(remarks, fmt.Sprintf("queue %q is new", queue))
	}
	if r.Consumers == 0 {
		remarks = append(remarks, "nobody consumes it yet")
	}
	if r.Duplicate {
		remarks = append(remarks, "an earlier request with this key had stored the message")
	}
	if len(remarks) > 0 {
		a.note("%s", strings.Join(remarks, "; "))
	}
}
