package main

import (
	"time"

	"github.com/replyq/replyq/client"
)

// storeFlags say how a message is stored, by enqueue and call.
type storeFlags struct {
	Delay           time.Duration `placeholder:"TIME" help:"Hold the message back for so long."`
	DeliverAt       time.Time     `placeholder:"RFC3339" help:"Hold the message back until then, e.g. 2027-01-31T08:00:00Z."`
	Expiry          time.Duration `placeholder:"TIME" help:"Withdraw the message if it was not delivered within so long."`
	Priority        int           `placeholder:"0-9" help:"9 is delivered first. Default 0."`
	Group           string        `placeholder:"NAME" help:"Group within the queue: its messages keep their order, groups are served in turn."`
	IdempotencyKey  string        `placeholder:"KEY" help:"One effect, however often the request is made with this key within 10 minutes."`
	RequireConsumer bool          `help:"Refuse the message if nobody consumes the queue; withdraw it if the last consumer leaves before."`
}

func (f *storeFlags) options() []client.EnqueueOption {
	var o []client.EnqueueOption
	if f.Delay != 0 {
		o = append(o, client.WithDelay(f.Delay))
	}
	if !f.DeliverAt.IsZero() {
		o = append(o, client.WithDeliverAt(f.DeliverAt))
	}
	if f.Expiry != 0 {
		o = append(o, client.WithExpiry(f.Expiry))
	}
	if f.Priority != 0 {
		o = append(o, client.WithPriority(f.Priority))
	}
	if f.Group != "" {
		o = append(o, client.WithGroup(f.Group))
	}
	if f.IdempotencyKey != "" {
		o = append(o, client.WithIdempotencyKey(f.IdempotencyKey))
	}
	if f.RequireConsumer {
		o = append(o, client.WithRequireConsumer())
	}
	return o
}

// consumerFlags are about the consumer, by consume and work.
type consumerFlags struct {
	ID    string        `placeholder:"NAME" help:"Name of the consumer: one that comes back under it, within --grace, keeps what it had; stop takes it. Default: random."`
	Grace time.Duration `placeholder:"TIME" help:"How long what it has waits for it when the connection is lost. Default 0: it goes to others at once."`
}

// pipeFlags say how a pipe behaves, by enqueue, call and pipe.
type pipeFlags struct {
	Timeout       time.Duration `placeholder:"TIME" help:"How long the pipe may stay open. Default 1h."`
	Parent        handleArg     `placeholder:"HANDLE" help:"A pipe under which this one is opened: no later deadline, cancelled when that one fails."`
	Capacity      uint32        `placeholder:"N" help:"How many replies the pipe keeps for its readers. Default 1024."`
	CapacityBytes uint64        `placeholder:"N" help:"How many bytes of replies it keeps. Default 4194304."`
	Retain        time.Duration `placeholder:"TIME" help:"How long the ended pipe is kept after it was read. Default 60s."`
}

func (f *pipeFlags) options() client.PipeOptions {
	return client.PipeOptions{Timeout: f.Timeout, Parent: f.Parent.handle, CapacityReplies: f.Capacity, CapacityBytes: f.CapacityBytes, Retain: f.Retain}
}

func (f *pipeFlags) set() bool { return *f != pipeFlags{} }
