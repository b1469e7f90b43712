package client

import (
	"time"

	"github.com/replyq/replyq/handles"
)

// EnqueueOption says how a message is stored. The server checks the values.
type EnqueueOption func(*requestOptions)

// CallOption says how a call is made: what may be said about an enqueue may be said about a call.
type CallOption = EnqueueOption

type requestOptions struct {
	pipe            PipeOptions
	openPipe        bool
	delay           time.Duration
	deliverAt       time.Time
	expiry          time.Duration
	priority        uint32
	group           string
	key             string
	requireConsumer bool
	fromSequence    uint64
}

// noOptions is shared by all requests without options. Nobody writes to it.
var noOptions requestOptions

func applyOptions(options []EnqueueOption) *requestOptions {
	if len(options) == 0 {
		return &noOptions
	}
	o := new(requestOptions)
	for _, option := range options {
		option(o)
	}
	return o
}

// PipeOptions says how a pipe behaves. Zero fields have their defaults.
type PipeOptions struct {
	// Timeout is how long the pipe may stay open. Default: for a call the deadline of its context, else 1 h.
	Timeout time.Duration
	// Parent is a handle, of either kind, of a pipe under which this one is opened: it takes over an earlier deadline,
	// and is cancelled when the parent ends otherwise than OK.
	Parent handles.Handle
	// DisconnectGrace is how long the readers of a call's pipe may be gone before it is abandoned. Default 10 s; at
	// most 1 h.
	DisconnectGrace time.Duration
	// KeepIfAbandoned leaves the pipe open and the message in its queue then. Default: the message is withdrawn.
	KeepIfAbandoned bool
	// CapacityReplies is how many replies the pipe keeps for its readers. Default 1,024; at most 65,536.
	CapacityReplies uint32
	// CapacityBytes is how many bytes of replies it keeps. Default 4 MiB; at most 64 MiB.
	CapacityBytes uint64
	// Retain is how long an ended pipe is kept after it was read completely. Default 60 s; at most 24 h.
	Retain time.Duration
}

// WithPipe opens a pipe for the answers of an enqueued message: its receive handle comes with the receipt. A call has
// one anyway, which then behaves as said here.
func WithPipe(p PipeOptions) EnqueueOption {
	return func(o *requestOptions) { o.pipe, o.openPipe = p, true }
}

// WithDelay holds the message back for so long. At most 365 days.
func WithDelay(d time.Duration) EnqueueOption {
	return func(o *requestOptions) { o.delay = d }
}

// WithDeliverAt holds the message back until then.
func WithDeliverAt(t time.Time) EnqueueOption {
	return func(o *requestOptions) { o.deliverAt = t }
}

// WithExpiry withdraws the message if it was not delivered within so long. At most 365 days.
func WithExpiry(d time.Duration) EnqueueOption {
	return func(o *requestOptions) { o.expiry = d }
}

// WithPriority gives the message a priority from 0, the default, to 9, which is delivered first.
func WithPriority(p int) EnqueueOption {
	return func(o *requestOptions) { o.priority = uint32(max(p, 0)) }
}

// WithGroup puts the message into a group of the queue: messages of a group keep their order, and groups are served in
// turn. At most 128 bytes.
func WithGroup(group string) EnqueueOption {
	return func(o *requestOptions) { o.group = group }
}

// WithIdempotencyKey gives the request one effect however often it is made within 10 minutes: a repetition returns the
// same message id, and a repeated call attaches to the same pipe. At most 128 bytes.
func WithIdempotencyKey(key string) EnqueueOption {
	return func(o *requestOptions) { o.key = key }
}

// WithRequireConsumer refuses the message with [ErrNoConsumer] if nobody consumes the queue, and ends the pipe so if the
// last consumer leaves before delivery.
func WithRequireConsumer() EnqueueOption {
	return func(o *requestOptions) { o.requireConsumer = true }
}

// WithFromSequence starts with a later reply, for a call that is made again with its idempotency key. Enqueue has no
// use for it.
func WithFromSequence(sequence uint64) CallOption {
	return func(o *requestOptions) { o.fromSequence = sequence }
}
