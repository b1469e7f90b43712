package main

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// configFlags are about a queue's configuration, by create and update. A flag that is not given is nil.
type configFlags struct {
	MaxLength        *uint64        `placeholder:"N" help:"How many messages may wait. Default: no limit."`
	MaxBytes         *uint64        `placeholder:"N" help:"How many bytes of messages may wait. Default: no limit."`
	Overflow         *string        `placeholder:"refuse|drop-oldest" enum:"refuse,drop-oldest" help:"What a full queue does. Default refuse."`
	DefaultExpiry    *time.Duration `placeholder:"TIME" help:"Expiry of messages that have none of their own. Default: none."`
	LeaseTime        *time.Duration `placeholder:"TIME" help:"Lease time of consumers that name none. Default 30s."`
	MaxFailures      *uint32        `placeholder:"N" help:"How many attempts may fail before a message is dead. Default 20."`
	Backoff          *time.Duration `placeholder:"TIME" help:"How long a failed message is held back at first; twice as long each time. Default 0."`
	MaxBackoff       *time.Duration `placeholder:"TIME" help:"The most that backoff grows to. Default 10m."`
	GroupConcurrency *uint32        `placeholder:"N" help:"How many deliveries of one group may be in flight; 1 is strict order. Default: no limit."`
	MaxDead          *uint32        `placeholder:"N" help:"How many dead messages are kept. Default 1000."`
	Paused           *bool          `help:"Deliver nothing; enqueueing goes on."`
}

// config is what was given, and the names of its fields in the contract.
func (f *configFlags) config() (c *queuepb.QueueConfig, fields []string) {
	c = &queuepb.QueueConfig{}
	given(&fields, "max_length", f.MaxLength, func(n uint64) { c.MaxLength = n })
	given(&fields, "max_bytes", f.MaxBytes, func(n uint64) { c.MaxBytes = n })
	given(&fields, "overflow", f.Overflow, func(how string) {
		c.Overflow = queuepb.Overflow_OVERFLOW_REFUSE
		if how == "drop-oldest" {
			c.Overflow = queuepb.Overflow_OVERFLOW_DROP_OLDEST
		}
	})
	given(&fields, "default_expiry", f.DefaultExpiry, func(d time.Duration) { c.DefaultExpiry = durationpb.New(d) })
	given(&fields, "lease_time", f.LeaseTime, func(d time.Duration) { c.LeaseTime = durationpb.New(d) })
	given(&fields, "max_failures", f.MaxFailures, func(n uint32) { c.MaxFailures = n })
	given(&fields, "backoff", f.Backoff, func(d time.Duration) { c.Backoff = durationpb.New(d) })
	given(&fields, "max_backoff", f.MaxBackoff, func(d time.Duration) { c.MaxBackoff = durationpb.New(d) })
	given(&fields, "group_concurrency", f.GroupConcurrency, func(n uint32) { c.GroupConcurrency = n })
	given(&fields, "max_dead", f.MaxDead, func(n uint32) { c.MaxDead = n })
	given(&fields, "paused", f.Paused, func(paused bool) { c.Paused = paused })
	return c, fields
}

// given notes a flag that was given.
func given[T any](fields *[]string, name string, flag *T, set func(T)) {
	if flag != nil {
		*fields = append(*fields, name)
		set(*flag)
	}
}

type createCmd struct {
	Queue string `arg:"" help:"The queue."`
	configFlags
}

// Help is shown by create --help.
func (createCmd) Help() string { return jsonHelp("queue") }

// Run creates a queue.
func (c *createCmd) Run(a *app) error {
	config, _ := c.config()
	if err := a.connect(); err != nil {
		return err
	}
	queue, err := a.client.CreateQueue(a.ctx, c.Queue, config)
	if err != nil {
		return err
	}
	a.queue(queue)
	return nil
}

type updateCmd struct {
	Queue string   `arg:"" help:"The queue."`
	Reset []string `placeholder:"FIELD" help:"A field that gets its default again, e.g. max_length; may be given many times."`
	configFlags
}

// Help is shown by update --help.
func (updateCmd) Help() string { return jsonHelp("queue") }

// Run changes a queue's configuration.
func (c *updateCmd) Run(a *app) error {
	config, fields := c.config()
	for _, field := range c.Reset {
		if slices.Contains(fields, field) {
			return usageError(field + " is given and reset: do one of the two")
		}
	}
	if fields = append(fields, c.Reset...); len(fields) == 0 {
		return usageError("say what to change, e.g. --max-length 1000 or --reset max_length")
	}
	if err := a.connect(); err != nil {
		return err
	}
	queue, err := a.client.UpdateQueue(a.ctx, c.Queue, config, fields...)
	if err != nil {
		return err
	}
	a.queue(queue)
	return nil
}

// queue shows a queue's configuration, and with JSON all of it.
func (a *app) queue(q *queuepb.Queue) {
	if a.JSON {
		a.emit(newQueueRecord(q))
		return
	}
	a.print(newConfigRecord(q.GetConfig()).text())
}

type pauseCmd struct {
	Queue string `arg:"" help:"The queue."`
}

// Run pauses a queue.
func (c *pauseCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	return a.client.PauseQueue(a.ctx, c.Queue)
}

type resumeCmd struct {
	Queue string `arg:"" help:"The queue."`
}

// Run resumes a queue.
func (c *resumeCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	return a.client.ResumeQueue(a.ctx, c.Queue)
}

type purgeCmd struct {
	Queue string `arg:"" help:"The queue."`
	State string `placeholder:"STATE" enum:"waiting,ready,delayed,dead" default:"waiting" help:"Which messages: ready, delayed or dead. Default: ready and delayed."`
}

// Help is shown by purge --help.
func (purgeCmd) Help() string { return jsonHelp("removed") }

// Run purges a queue.
func (c *purgeCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	n, err := a.client.PurgeQueue(a.ctx, c.Queue, states[c.State])
	if err != nil {
		return err
	}
	a.removed(n)
	return nil
}

// states are the words for states of messages on the command line.
var states = map[string]queuepb.MessageState{
	"ready":     queuepb.MessageState_MESSAGE_STATE_READY,
	"delayed":   queuepb.MessageState_MESSAGE_STATE_DELAYED,
	"in-flight": queuepb.MessageState_MESSAGE_STATE_IN_FLIGHT,
	"dead":      queuepb.MessageState_MESSAGE_STATE_DEAD,
}

type deleteCmd struct {
	Queue string `arg:"" help:"The queue."`
	Force bool   `help:"Delete it although it has messages or consumers."`
}

// Help is shown by delete --help.
func (deleteCmd) Help() string { return jsonHelp("removed") }

// Run deletes a queue.
func (c *deleteCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	n, err := a.client.DeleteQueue(a.ctx, c.Queue, c.Force)
	if err != nil {
		return err
	}
	a.removed(n)
	return nil
}

func (a *app) removed(messages uint64) {
	if a.JSON {
		a.emit(&removedRecord{Type: "removed", Messages: messages})
		return
	}
	a.print(fmt.Sprintf("removed %d\n", messages))
}

type removedRecord struct {
	Type     string `json:"type"`
	Messages uint64 `json:"messages"`
}
