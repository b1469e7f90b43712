package main

import (
	"context"
	"time"
)

type receiveCmd struct {
	Handle  handleArg     `arg:"" help:"The receive handle."`
	From    uint64        `placeholder:"N" help:"Begin with this reply. Default 1, the first."`
	Timeout time.Duration `placeholder:"TIME" help:"Give up after so long; the pipe stays as it is. Default: wait for its end."`
	Raw     bool          `help:"Write payloads as they are, without a line's end after each."`
}

// Help is shown by receive --help.
func (receiveCmd) Help() string {
	return "Many may receive from one pipe, and each gets everything; leaving changes nothing.\n\n" + jsonHelp("reply", "end")
}

// Run receives.
func (c *receiveCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	ctx := a.ctx
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	return a.replies(a.client.Receive(ctx, c.Handle.handle, c.From), c.Handle.handle, c.Raw)
}
