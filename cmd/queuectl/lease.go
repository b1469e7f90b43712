package main

import (
	"fmt"
	"time"

	"github.com/replyq/replyq/client"
)

type settleCmd struct {
	Lease  handleArg     `arg:"" help:"The lease of the delivery."`
	Action string        `arg:"" enum:"ack,retry,reject,release" help:"ack: done. retry: failed, deliver it again. reject: make it a dead message now. release: give it back as not started."`
	Delay  time.Duration `placeholder:"TIME" help:"With retry: hold the message back for so long. Default: the queue's backoff."`
	Reason string        `placeholder:"TEXT" help:"With retry and reject: why, for the message's history."`
	Keep   bool          `help:"With ack: the reply_to is kept and will be used later; without it the pipe of a waiter ends BROKEN."`
}

// Help is shown by settle --help.
func (settleCmd) Help() string {
	return "To answer and ack in one step: reply --lease … --ack.\n\n" + jsonHelp("settled")
}

// Run settles.
func (c *settleCmd) Run(a *app) error {
	actions := map[string]client.SettleAction{
		"ack": client.SettleAck, "retry": client.SettleRetry, "reject": client.SettleReject, "release": client.SettleRelease,
	}
	action := actions[c.Action]
	switch {
	case c.Delay != 0 && action != client.SettleRetry:
		return usageError("--delay needs retry")
	case c.Reason != "" && action != client.SettleRetry && action != client.SettleReject:
		return usageError("--reason needs retry or reject")
	case c.Keep && action != client.SettleAck:
		return usageError("--keep needs ack")
	}
	if err := a.connect(); err != nil {
		return err
	}
	result, err := a.client.SettleLease(a.ctx, c.Lease.handle, client.Settlement{
		Action: action, Delay: c.Delay, Reason: c.Reason, KeepHandles: c.Keep,
	})
	if err != nil {
		return err
	}
	switch {
	case a.JSON:
		a.emit(&settledRecord{Type: "settled", Already: result.Already, Dead: result.Dead})
	case result.Already:
		a.print("had been settled so before\n")
	case result.Dead:
		a.print("settled; it is a dead message\n")
	default:
		a.print("settled\n")
	}
	return nil
}

type settledRecord struct {
	Type    string `json:"type"`
	Already bool   `json:"already"`
	Dead    bool   `json:"dead"`
}

type extendCmd struct {
	Lease handleArg     `arg:"" help:"The lease of the delivery."`
	For   time.Duration `arg:"" optional:"" name:"time" help:"How long from now, 1s to 12h. Default: the lease time of its consumer."`
}

// Help is shown by extend --help.
func (extendCmd) Help() string { return jsonHelp("extended") }

// Run extends a lease.
func (c *extendCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	results, err := a.client.ExtendLeases(a.ctx, c.For, c.Lease.handle)
	if err != nil {
		return err
	}
	r := results[0] // there is one for each lease
	if r.Err != nil {
		return r.Err
	}
	if a.JSON {
		a.emit(&extendedRecord{Type: "extended", Expires: r.Expires, WaiterGone: r.WaiterGone})
		return nil
	}
	a.print("until    " + r.Expires.Local().Format(time.RFC3339) + "\n")
	if r.WaiterGone {
		a.note("nobody waits for its answer any more")
	}
	return nil
}

type extendedRecord struct {
	Type       string    `json:"type"`
	Expires    time.Time `json:"lease_expires_at"`
	WaiterGone bool      `json:"waiter_gone"`
}

type stopCmd struct {
	Consumer string `arg:"" name:"consumer-id" help:"The consumer's id: given with --id, or shown by messages as the one that had an attempt."`
}

// Help is shown by stop --help.
func (stopCmd) Help() string {
	return "The consumer gets no more deliveries, and ends when all it has is settled.\n\n" + jsonHelp("stopping")
}

// Run stops a consumer.
func (c *stopCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	n, err := a.client.StopConsuming(a.ctx, c.Consumer)
	if err != nil {
		return err
	}
	if a.JSON {
		a.emit(&stoppingRecord{Type: "stopping", InFlight: n})
		return nil
	}
	a.print(fmt.Sprintf("stopping, %d in flight\n", n))
	return nil
}

type stoppingRecord struct {
	Type     string `json:"type"`
	InFlight int    `json:"in_flight"`
}
