package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/handles"
)

// Delivery is one hand-over of a message to a consumer, who holds its lease and has to settle it: by Ack, Retry, Reject
// or Release, or in one step with the answer by Reply, ReplyError, Splice or Settle. The fields are not to be changed,
// and their memory is the receiver's.
type Delivery struct {
	// MessageID is the message's id, as in its receipt.
	MessageID string
	// Queue is where it came from.
	Queue string
	// Attempt is the number of this hand-over, from 1. Pass it on to outside resources as a fencing token.
	Attempt uint32
	// Failures is how many earlier attempts failed.
	Failures uint32
	// Payload, ContentType and Headers are the message's.
	Payload     []byte
	ContentType string
	Headers     map[string]string
	// Handles came with the message, by name; nil if there are none. ReplyTo is not among them.
	Handles map[string]handles.Handle
	// EndedHandles names those whose pipes have ended; "reply_to" stands for the reply_to.
	EndedHandles []string
	// EnqueuedAt is when the message was enqueued.
	EnqueuedAt time.Time
	// Deadline is when nobody waits any more, by the server's clock; zero for never.
	Deadline time.Time
	// LeaseExpiresAt is when the lease ended at the time of delivery, by the server's clock.
	LeaseExpiresAt time.Time
	// Priority and Group are what it was enqueued with.
	Priority int
	Group    string

	consumer *Consumer
	lease    string // token
	replyTo  string // token; "" if nobody waits

	settling atomic.Bool  // somebody settles it, or has
	leaseEnd atomic.Int64 // when the lease ends, in Unix nanoseconds of the server
	ending   ending       // how Work settles it
	stream   *ReplyStream // nil until it is asked for; of the goroutine that works on the delivery

	// In consumer.held; guarded by consumer.mu.
	prev, next *Delivery
	isHeld     bool

	mu    sync.Mutex
	cause error              // why the context has ended
	ctx   context.Context    // made when it is asked for; see deliveryContext
	stop  context.CancelFunc // releases ctx's timer
	fail  context.CancelCauseFunc
}

// HasReplyTo reports whether the message has a reply_to: somebody waits, or waited, for an answer.
func (d *Delivery) HasReplyTo() bool { return d.replyTo != "" }

// ReplyTo returns the handle to answer through, zero if there is none. Replies by the delivery's own methods need it
// not; it is for passing on.
func (d *Delivery) ReplyTo() handles.Handle { h, _ := handles.Parse(d.replyTo); return h }

// Lease returns the lease, for [WithLease] and [Client.Describe].
func (d *Delivery) Lease() handles.Handle { h, _ := handles.Parse(d.lease); return h }

// Message returns the message as it was enqueued, reply_to included: enqueueing it elsewhere in a [Settlement] forwards
// it.
func (d *Delivery) Message() Message {
	return Message{
		Payload: d.Payload, ContentType: d.ContentType, Headers: d.Headers, ReplyTo: d.ReplyTo(), Handles: d.Handles,
	}
}

// Client returns the client through which the delivery came, for handlers that enqueue or call themselves.
func (d *Delivery) Client() *Client { return d.consumer.client }

func (d *Delivery) extendedTo(t time.Time) {
	if !t.IsZero() {
		d.leaseEnd.Store(t.UnixNano())
	}
}
