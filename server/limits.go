package server

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// The limits that are the same on every server. Those that [Config] sets are in [limits].
const (
	maxQueueName      = 128
	maxContentType    = 128
	maxHeaders        = 64
	maxHeaderBytes    = 8 << 10
	maxHandles        = 32
	maxHandleName     = 64
	maxPriority       = 9
	maxGroup          = 128
	maxIdempotencyKey = 128
	maxReplyID        = 64
	maxReason         = 1 << 10 // of Settle and Cancel

	maxErrorReason       = 64 // a replier's error
	maxErrorMessage      = 4 << 10
	maxErrorMetadata     = 16
	maxErrorMetadataSize = 1 << 10
	maxErrorDetails      = 16
	maxErrorDetailsSize  = 64 << 10

	maxQueues      = 64
	maxInFlight    = 10_000
	maxConsumerID  = 64
	maxLeases      = 1_000
	maxSettleItems = 256 // replies, and messages

	maxStreams    = 8_192 // of a connection
	maxBatchItems = 1_000
	maxWindow     = 8_192
	maxPage       = 1_000
	defaultPage   = 100

	maxFailuresLimit = 1_000  // of a queue's configuration
	maxDeadLimit     = 10_000 // likewise

	maxMessageIDs       = 1_000
	defaultShownPayload = 1 << 10 // of a message in a list
	maxShownPayload     = 64 << 10
	maxListBytes        = 3 << 20 // of a page of messages; then it is shorter than asked for

	defaultWatchInterval = time.Second
	minWatchInterval     = 100 * time.Millisecond
	maxWatchInterval     = time.Hour

	minSessionID = 16
	maxSessionID = 64

	minLeaseTime = time.Second
	maxLeaseTime = 12 * time.Hour
	maxDelay     = 365 * 24 * time.Hour // and expiry

	maxDisconnectGrace = time.Hour
	maxRetain          = 24 * time.Hour
	maxCapacityReplies = 1 << 16
	maxCapacityBytes   = 64 << 20
	maxReplyWait       = 10 * time.Second
	maxHelloName       = 64

	defaultReplyCredit = 256
	defaultCreditBytes = 4 << 20
)

// LargestPayload is what the limit for payloads can be raised to. A frame of the server carries at least one whole
// message, and clients in Node and Python take 4 MiB at most unless told otherwise.
const LargestPayload = 3 << 20

// limits are those that the configuration sets.
type limits struct {
	payload     int
	frame       int
	pipeTimeout time.Duration
}

// message tells clients the limits.
func (l limits) message() *queuepb.Limits {
	return &queuepb.Limits{
		PayloadBytes:     uint64(l.payload),
		FrameBytes:       uint64(l.frame),
		BatchItems:       maxBatchItems,
		WindowOperations: maxWindow,
		Handles:          maxHandles,
		PipeTimeout:      durationpb.New(l.pipeTimeout),
		Delay:            durationpb.New(maxDelay),
		MinLeaseTime:     durationpb.New(minLeaseTime),
		MaxLeaseTime:     durationpb.New(maxLeaseTime),
	}
}
