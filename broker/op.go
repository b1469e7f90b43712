package broker

import (
	"time"

	"github.com/replyq/replyq/handles"
)

// An Op is one operation of a client: a request with the number under which its events come back.
//
// Form (names, sizes, ranges, the MAC and tenant of handles) has been checked by the caller; the broker checks state.
type Op struct {
	// ID is the operation's number within its [Session], from 1. Its events carry it.
	ID uint64
	// Credit is how many replies (Call, Receive) or deliveries (Consume) may be handed out before [Session.Credit]
	// gives more. For Consume, 0 means that only MaxInFlight bounds them.
	Credit uint32
	// Timeout bounds how long a Reply waits for room in its pipe; 0 means not at all.
	Timeout time.Duration
	// Patient says that nobody is in a hurry for the answer of an *Enqueue, *Reply or *Settle, unless it is an error: it
	// does not make [Session.Ready] receive. Whoever submits looks with [Session.Holds] whether there is such an answer,
	// and sees to it that it is taken after a while. The events that follow a Call's receipt are as ever.
	Patient bool
	// Request is one of *Enqueue, *Consume, *Reply, *Settle, *ExtendLeases, *StopConsuming, *OpenPipe, *Receive,
	// *Cancel, *Describe, *CreateQueue, *UpdateQueue, *DeleteQueue, *PurgeQueue, *ListMessages, *DeleteMessages,
	// *RedriveMessages, *EndPipe, *ListQueues. What it points to (bodies, handles, options) belongs to the broker from now
	// on; *Enqueue, *Reply and *Settle themselves, and the Pipe of an
	// Enqueue, are the caller's again when Submit returns.
	Request Request
}

// A Request is what an [Op] asks for.
type Request interface{ request() }

// A NamedHandle is a handle that a message or a reply carries, with its name there.
type NamedHandle struct {
	Name   string
	Handle handles.Handle
}

// Cargo is what a message or a reply carries besides its bytes: handles that are checked and tracked.
type Cargo struct {
	// Handles are the declared ones, by name.
	Handles []NamedHandle
	// Found are verified tokens that stand as text in the payload: they are not tracked, but their pipes count as known
	// outside from now on.
	Found []handles.Handle
}

// Enqueue stores a message. Answered by [Receipt]; with Call set, followed by [ReplyItem] events and [End].
type Enqueue struct {
	Queue string
	// Body is the encoded message, without a reply_to that the broker itself makes. Opaque to the broker, which owns it
	// from now on.
	Body []byte
	// ReplyTo is the send handle that the producer named; zero if none. Excludes Pipe.
	ReplyTo handles.Handle
	Cargo   Cargo
	// Pipe opens a pipe whose send handle becomes the reply_to.
	Pipe *PipeOptions
	// Call attaches the caller to that pipe as a reader, from FromSequence on (0 and 1 both mean the first).
	Call         bool
	FromSequence uint64
	// Delay holds the message back, from now; NotBefore does so until a time. At most one is set.
	Delay     time.Duration
	NotBefore Time
	// Expiry is how long from now the message may wait; 0 means the default.
	Expiry time.Duration
	// Priority is 0 to 9; 9 is delivered first.
	Priority uint8
	// Group is the message's group within the queue; empty if it has none.
	Group string
	// RequireConsumer refuses the message when nobody consumes its queue.
	RequireConsumer bool
	// Key gives repeats of the request one effect; nil if there is none.
	Key *Key
}

// A Key is an idempotency key. Both are digests, so that what is kept of one is small: of the key itself, which belongs
// to tenant and queue, and of all that a repeat must have in common with the first request.
type Key struct{ ID, Content [16]byte }

// PipeOptions says how a pipe behaves. Zero fields mean the defaults that the wire contract names.
type PipeOptions struct {
	Timeout         time.Duration
	Parent          handles.Handle
	DisconnectGrace time.Duration
	KeepIfAbandoned bool
	CapacityReplies uint32
	CapacityBytes   uint64
	Retain          time.Duration
}

// Consume registers a consumer. Answered by [Started], followed by [Delivery], [WaiterGone] and [LeaseLost] events.
type Consume struct {
	Queues      []string
	MaxInFlight uint32        // 0 means 1
	LeaseTime   time.Duration // 0 means the queue's
	// ConsumerID is the client's name for the consumer; the broker makes one if it is empty.
	ConsumerID    string
	MaxDeliveries uint64
	Wait          time.Duration
	// Held are the leases that a consumer which comes back under its id still has: it keeps them, and what else it had
	// returns. Those that are not in force any more are no error.
	Held []handles.Handle
	// Grace is how long its deliveries wait for it to come back when it is cut; 0 returns them at once.
	Grace time.Duration
}

// Reply sends one reply through a send handle. Answered by [ReplyResult].
type Reply struct {
	Handle handles.Handle
	// Kind says what the body is.
	Kind ReplyKind
	// Body is the encoded reply content (ReplyPayload) or error (ReplyError). For a ReplySplice in a Settle it is the error
	// with which the pipe ends if the other one is not there. The broker owns it from now on.
	Body []byte
	// Splice is the receive handle whose pipe continues this one (ReplySplice).
	Splice handles.Handle
	Cargo  Cargo
	// More keeps the pipe open.
	More bool
	// Lease is the delivery that is being answered; zero if none is named. Ack settles it in the same step.
	Lease handles.Handle
	Ack   bool
	// ID makes repeats harmless; empty if there is none.
	ID string

	// beyond says that the pipe's capacity does not count.
	beyond bool
}

// ReplyKind says what the body of a [Reply] is.
type ReplyKind uint8

// The kinds of reply bodies.
const (
	ReplyNothing ReplyKind = iota // an end without a reply; with More, nothing
	ReplyPayload
	ReplyError
	ReplySplice
)

// Settle ends a delivery. Answered by [Settled].
type Settle struct {
	Lease  handles.Handle
	Action SettleAction
	// Delay holds a retried message back; 0 means the queue's backoff, NoDelay not at all.
	Delay time.Duration
	// Reason is kept in the message's history.
	Reason string
	// Replies and Messages happen in the same step.
	Replies  []*Reply
	Messages []*Enqueue
	// KeepHandles says that the consumer keeps copies of the delivery's handles.
	KeepHandles bool
}

// NoDelay returns a retried message at once, whatever its queue's backoff.
const NoDelay time.Duration = -1

// SettleAction says how a delivery ends.
type SettleAction uint8

// The ways to settle. The numbers are those of the wire contract.
const (
	Ack     SettleAction = 1
	Retry   SettleAction = 2
	Reject  SettleAction = 3
	Release SettleAction = 4
)

// ExtendLeases gives leases more time. Answered by [Extended].
type ExtendLeases struct {
	Leases    []handles.Handle
	LeaseTime time.Duration // 0 means the consumer's
}

// StopConsuming ends the deliveries to a consumer of the same tenant and principal. Answered by [Stopping].
type StopConsuming struct{ ConsumerID string }

// OpenPipe opens a pipe. Answered by [PipeOpened].
type OpenPipe struct {
	Options PipeOptions
	// Queue places the pipe with that queue; empty means anywhere.
	Queue string
}

// Receive attaches the caller to a pipe. Answered by [Attached], followed by [ReplyItem] events and [End].
type Receive struct {
	Handle       handles.Handle
	FromSequence uint64
}

// Cancel ends a pipe. Answered by [Cancelled].
type Cancel struct {
	Handle  handles.Handle
	Message string
}

// Describe asks about a pipe or a delivery. Answered by [Description].
type Describe struct{ Handle handles.Handle }

// CreateQueue makes a queue. Answered by [QueueList] with that queue.
type CreateQueue struct {
	Queue  string
	Config QueueConfig
}

// UpdateQueue changes some fields of a queue's configuration. Answered by [QueueList] with that queue.
type UpdateQueue struct {
	Queue  string
	Config QueueConfig
	Fields ConfigFields
}

// DeleteQueue removes a queue; with Force even one that has messages or consumers. Answered by [Removed].
type DeleteQueue struct {
	Queue string
	Force bool
}

// PurgeQueue removes the messages of a queue that are in a state; 0 means those that wait, ready or delayed. Answered by
// [Removed].
type PurgeQueue struct {
	Queue string
	State MessageState
}

// ListMessages looks at messages without touching them. Answered by [MessageList].
type ListMessages struct {
	Queue string
	State MessageState // 0 means any
	After Cursor
	Limit int // at least 1
}

// DeleteMessages removes messages, also those in flight. Answered by [Removed].
type DeleteMessages struct {
	Queue    string
	Messages []MessageID
}

// RedriveMessages puts dead messages back, with their failures set to 0: those named, or all. Answered by [Removed].
type RedriveMessages struct {
	Queue    string
	Messages []MessageID
	Target   string // empty means the same queue

	targetShard uint16 // of Target; set on the way to the shard
}

// EndPipe ends a pipe by an administrator's will. Answered by [Cancelled].
type EndPipe struct {
	// Handle is either of the pipe's; or else Message is one whose reply_to it is.
	Handle  handles.Handle
	Message MessageID
	Text    string
}

// ListQueues lists queues by name. Answered by [QueueList].
type ListQueues struct {
	// Name asks for exactly one queue; if it does not exist the answer is an error.
	Name string
	// Prefix selects, After goes on behind a name, Limit bounds the list (0 means 100).
	Prefix, After string
	Limit         int
}

func (*Enqueue) request()         {}
func (*Consume) request()         {}
func (*Reply) request()           {}
func (*Settle) request()          {}
func (*ExtendLeases) request()    {}
func (*StopConsuming) request()   {}
func (*OpenPipe) request()        {}
func (*Receive) request()         {}
func (*Cancel) request()          {}
func (*Describe) request()        {}
func (*CreateQueue) request()     {}
func (*UpdateQueue) request()     {}
func (*DeleteQueue) request()     {}
func (*PurgeQueue) request()      {}
func (*ListMessages) request()    {}
func (*DeleteMessages) request()  {}
func (*RedriveMessages) request() {}
func (*EndPipe) request()         {}
func (*ListQueues) request()      {}
