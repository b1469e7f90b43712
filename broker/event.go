package broker

import (
	"time"

	"github.com/replyq/replyq/handles"
)

// An Event is what the broker tells a client about one of its operations.
type Event struct {
	// Op is the number of the operation.
	Op uint64
	// Done says that nothing more comes for it.
	Done bool
	// reusable says that the body may be used again, see Recycle.
	reusable bool
	// patient says that nobody is in a hurry for it, see Op.Patient.
	patient bool
	// Body is one of *Receipt, *Started, *Delivery, *WaiterGone, *LeaseLost, *Attached, *ReplyItem, *End, *ReplyResult,
	// *Settled, *Extended, *Stopping, *PipeOpened, *Cancelled, *Description, *QueueList, *Removed,
	// *MessageList, *Error; nil if the operation
	// just ends (a stopped Consume). Bodies are read-only and may be shared, until [Session.Recycle] gets them.
	Body any
}

// Time is nanoseconds since the Unix epoch; 0 means none.
type Time int64

// Std converts to the standard library's type; the zero Time gives the zero time.Time.
func (t Time) Std() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(t))
}

// Split gives whole seconds since the epoch, rounded down, and the nanoseconds that are left.
func (t Time) Split() (seconds, nanos int64) {
	const second = 1_000_000_000
	seconds, nanos = int64(t)/second, int64(t)%second
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+second
	}
	return seconds, nanos
}

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// TimeOf converts from the standard library's type.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixNano())
}

// Receipt says that a message is stored.
type Receipt struct {
	Message MessageID
	// Receive is the claim of the receive handle, if a pipe was opened (else its Kind is 0), to be minted by the caller.
	Receive      handles.Claims
	PipeDeadline Time
	Duplicate    bool
	QueueCreated bool
	Consumers    uint32
}

// Started says that a consumer is registered.
type Started struct {
	ConsumerID string
	Created    []string
}

// Delivery hands a message to a consumer.
type Delivery struct {
	Message MessageID
	Queue   string
	// Lease is the claim of the lease token, to be minted by the caller.
	Lease        handles.Claims
	LeaseExpires Time
	Attempt      uint32
	Failures     uint32
	// Body is the encoded message as it came in Enqueue.Body.
	Body []byte
	// ReplyTo is the claim of the reply_to if the broker made it (else its Kind is 0, and Body has it, if any).
	ReplyTo    handles.Claims
	EnqueuedAt Time
	Deadline   Time
	Priority   uint8
	Group      string
	// Ended names the carried handles whose pipes have ended; "reply_to" stands for the reply_to.
	Ended []string
}

// WaiterGone says that the pipe of a delivery's reply_to has ended.
type WaiterGone struct {
	Message MessageID
	Attempt uint32
	Reason  EndReason
}

// LeaseLost says that a delivery is no longer the consumer's.
type LeaseLost struct {
	Message MessageID
	Attempt uint32
	Text    string
}

// Attached says that a reader receives from a pipe now.
type Attached struct {
	Deadline      Time
	FirstSequence uint64
	NextSequence  uint64
}

// ReplyItem is one reply on its way to a reader.
type ReplyItem struct {
	Sequence uint64
	Body     []byte // the encoded reply content as it came in Reply.Body
	Source   MessageID
	Attempt  uint32
	Ended    []string
}

// End is the end of a pipe. Exactly one comes to each attached reader.
type End struct {
	Reason EndReason
	// Body is the encoded error of a replier (FAILED); Text is a sentence for the server's own reasons.
	Body         []byte
	Text         string
	LastSequence uint64
}

// EndReason says why a pipe ended. The numbers are those of the wire contract.
type EndReason uint8

// The reasons.
const (
	EndOpen EndReason = iota // not ended
	EndOK
	EndFailed
	EndExpired
	EndCancelled
	EndNoConsumer
	EndRejected
	EndDeadLettered
	EndPurged
	EndQueueDeleted
	EndDropped
	EndBroken
	EndRevoked
	EndShuttingDown
	EndLost
)

// ReplyOutcome says what became of a reply. The numbers are those of the wire contract.
type ReplyOutcome uint8

// The outcomes.
const (
	ReplyDelivered ReplyOutcome = 1
	ReplyBuffered  ReplyOutcome = 2
	ReplyEnded     ReplyOutcome = 3
	ReplyUnknown   ReplyOutcome = 4
)

// ReplyResult answers a [Reply].
type ReplyResult struct {
	Outcome   ReplyOutcome
	EndReason EndReason
	Sequence  uint64
}

// Settled answers a [Settle].
type Settled struct {
	Already  bool
	Dead     bool
	Replies  []ReplyResult
	Receipts []Receipt
}

// Extended answers [ExtendLeases], one item per lease.
type Extended struct{ Leases []ExtendedLease }

// ExtendedLease is the result for one lease.
type ExtendedLease struct {
	Expires    Time
	Err        *Error
	WaiterGone bool
}

// Stopping answers [StopConsuming].
type Stopping struct{ InFlight uint32 }

// PipeOpened answers [OpenPipe]; both claims are to be minted by the caller.
type PipeOpened struct {
	Send, Receive handles.Claims
	Deadline      Time
}

// Cancelled answers [Cancel] and [EndPipe].
type Cancelled struct {
	Now    bool // this operation ended the pipe
	Reason EndReason
}

// WaitState says what a pipe waits for. The numbers are those of the wire contract.
type WaitState uint8

// The states.
const (
	WaitUnknown    WaitState = 0 // for what is in another shard, which is not asked
	WaitEnded      WaitState = 1
	WaitQueued     WaitState = 2
	WaitDelayed    WaitState = 3
	WaitNoConsumer WaitState = 4
	WaitPaused     WaitState = 5
	WaitInFlight   WaitState = 6
	WaitInReply    WaitState = 7
	WaitSpliced    WaitState = 8
	WaitOutside    WaitState = 9
)

// MessageState says where a message is. The numbers are those of the wire contract.
type MessageState uint8

// The states.
const (
	MessageReady    MessageState = 1
	MessageDelayed  MessageState = 2
	MessageInFlight MessageState = 3
	MessageDead     MessageState = 4
)

// Description answers [Describe].
type Description struct {
	State         WaitState
	Summary       string
	Deadline      Time
	End           *End
	FirstSequence uint64
	NextSequence  uint64
	Readers       uint32
	Carriers      []CarrierDescription
	Outside       bool
	// HasPipe is false when a lease was asked about whose message has no reply_to.
	HasPipe bool
}

// CarrierDescription tells about one carrier of a send handle.
type CarrierDescription struct {
	Message   MessageID // zero if the carrier is a reply
	Queue     string
	State     MessageState
	Position  uint64
	Attempts  uint32
	Failures  uint32
	Until     Time
	Consumers uint32
	Paused    bool   // its queue is
	Blocked   string // why its group may have no further delivery, if it may not
}

// QueueList answers [ListQueues], [CreateQueue] and [UpdateQueue].
type QueueList struct {
	Queues []QueueInfo
	More   bool
}

// QueueInfo is a queue with its figures.
type QueueInfo struct {
	Name      string
	CreatedAt Time
	Config    QueueConfig // with its defaults
	Ready     uint64
	InFlight  uint64
	Delayed   uint64
	Dead      uint64
	Bytes     uint64
	Consumers uint32
	Waiters   uint64
	OldestAge time.Duration
	Enqueued  uint64
	Delivered uint64
	Acked     uint64
	Failed    uint64
	// EnqueueRate and AckRate are per second, over the last ten seconds.
	EnqueueRate, AckRate float64
}

// Removed answers [PurgeQueue], [DeleteQueue] and [DeleteMessages], and for [RedriveMessages] says how many dead ones
// there are less.
type Removed struct{ Messages uint64 }

// MessageList answers [ListMessages].
type MessageList struct {
	Messages []MessageInfo
	// More says that the list goes on behind Next.
	More bool
	Next Cursor
}

// MessageInfo tells about a message.
type MessageInfo struct {
	Message MessageID
	Cursor  Cursor // continues the list behind this message
	State   MessageState
	Body    []byte
	// ReplyTo is the claim of the reply_to if the broker made it (else its Kind is 0, and Body has it, if any).
	ReplyTo    handles.Claims
	EnqueuedAt Time
	Until      Time // when it will be delivered, its lease ends, or it died
	Attempts   uint32
	Failures   uint32
	Priority   uint8
	Group      string
	DeadReason EndReason
	History    []AttemptInfo
}

// AttemptInfo tells how one attempt ended.
type AttemptInfo struct {
	Attempt     uint32
	ConsumerID  string
	DeliveredAt Time
	EndedAt     Time
	Text        string
}
