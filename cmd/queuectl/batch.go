package main

import (
	"bytes"

	"github.com/replyq/replyq/client"
)

// batches sends each line of text as a message. The first that is refused ends it; those before it, and in the same
// batch those behind it, are stored.
func (c *enqueueCmd) batches(a *app, text []byte, options []client.EnqueueOption) error {
	limits := a.info.GetLimits()
	var items []client.Item
	size, first := 0, true
	flush := func() error {
		if len(items) == 0 {
			return nil
		}
		results, err := a.client.EnqueueBatch(a.ctx, items...)
		items, size = nil, 0
		for _, r := range results {
			if r.Err != nil && err == nil {
				err = r.Err
			}
			if r.Err != nil {
				continue
			}
			a.receiptLines(c.Queue, r.Receipt)
			if first && !a.JSON {
				first = false
				a.remarks(c.Queue, r.Receipt)
			}
		}
		return err
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		message := c.message(line)
		message.ReplyTo = c.ReplyTo.handle
		// Half a frame leaves room for what comes with each message.
		if len(items) == int(limits.GetBatchItems()) || size+len(line) > int(limits.GetFrameBytes()/2) {
			if err := flush(); err != nil {
				return err
			}
		}
		items = append(items, client.Item{Queue: c.Queue, Message: message, Options: options})
		size += len(line) + 256
	}
	return flush()
}
