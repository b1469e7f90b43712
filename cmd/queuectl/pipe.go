package main

import (
	"fmt"
	"time"
)

type pipeCmd struct {
	pipeFlags
}

// Help is shown by pipe --help.
func (pipeCmd) Help() string {
	return "The send handle is to reply through: put it into messages (--reply-to, --handle) or give it to whoever shall " +
		"reply. The receive handle is the future: await it, or pass it on.\n\n" + jsonHelp("pipe")
}

// Run opens a pipe.
func (c *pipeCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	p, err := a.client.OpenPipe(a.ctx, c.options())
	if err != nil {
		return err
	}
	if a.JSON {
		a.emit(&pipeRecord{Type: "pipe", SendHandle: p.Send.Text(), ReceiveHandle: p.Receive.Text(), Deadline: p.Deadline})
		return nil
	}
	a.print(fmt.Sprintf("send     %s\nreceive  %s\ndeadline %s\n",
		p.Send.Text(), p.Receive.Text(), p.Deadline.Local().Format(time.RFC3339)))
	return nil
}

type cancelCmd struct {
	Handle  handleArg `arg:"" help:"The receive handle."`
	Message string    `arg:"" optional:"" help:"Why, for the others who wait."`
}

// Help is shown by cancel --help.
func (cancelCmd) Help() string {
	return "A message that waits with the pipe as its reply_to is withdrawn, and a consumer that works on it is told.\n\n" +
		jsonHelp("cancel")
}

// Run cancels.
func (c *cancelCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	cancelled, reason, err := a.client.Cancel(a.ctx, c.Handle.handle, c.Message)
	if err != nil {
		return err
	}
	switch {
	case a.JSON:
		a.emit(&cancelRecord{Type: "cancel", Cancelled: cancelled, Reason: string(reason)})
	case cancelled:
		a.print("cancelled\n")
	default:
		a.print(fmt.Sprintf("had ended %s before\n", reason))
	}
	return nil
}
