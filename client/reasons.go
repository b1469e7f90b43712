package client

import (
	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
)

// Reason is the machine-readable part of an error: of a refusal, or of a pipe's end. It is an error itself, so that
// errors.Is(err, client.ReasonQueueFull) is the test for it. Repliers may send reasons of their own.
type Reason string

// Error returns the reason as it is on the wire.
func (r Reason) Error() string { return string(r) }

// How a pipe ends otherwise than OK; what [EndError] has as its Reason.
const (
	ErrFailed       Reason = "FAILED"        // a replier's error; errors.As gives the [*Error]
	ErrExpired      Reason = "EXPIRED"       // the deadline of the pipe, or expiry of its message
	ErrCancelled    Reason = "CANCELLED"     // by a holder of the receive handle, or abandoned
	ErrNoConsumer   Reason = "NO_CONSUMER"   // a consumer was required; also the reason of a refusal
	ErrRejected     Reason = "REJECTED"      // a consumer rejected the message
	ErrDeadLettered Reason = "DEAD_LETTERED" // the message ran out of attempts
	ErrPurged       Reason = "PURGED"        // the message was purged or deleted
	ErrQueueDeleted Reason = "QUEUE_DELETED" // the queue was deleted with the message
	ErrDropped      Reason = "DROPPED"       // the queue overflowed
	ErrBroken       Reason = "BROKEN"        // the message was acked without any reply
	ErrRevoked      Reason = "REVOKED"       // an administrator ended the pipe
	ErrShuttingDown Reason = "SHUTTING_DOWN" // a server without a journal was stopped
	ErrLost         Reason = "LOST"          // the pipe belonged to an earlier run of such a server
)

// Errors and causes of the client's own making.
const (
	ErrClosed     Reason = "CLIENT_CLOSED"   // the client was closed
	ErrNoReply    Reason = "NO_REPLY"        // the pipe ended OK without a reply, where a value was asked for
	ErrSettled    Reason = "ALREADY_SETTLED" // the delivery was settled before
	ErrStopped    Reason = "STOPPED"         // the consumer was stopped, and all it held is settled
	ErrWaiterGone Reason = "WAITER_GONE"     // cause of a delivery's context: nobody waits for the answer
	ErrLeaseLost  Reason = "LEASE_LOST"      // cause of a delivery's context: somebody else may have the message
	ErrDraining   Reason = "WORK_STOPPED"    // cause of a delivery's context: the grace of a stopped Work is over

	ErrOutcomeUnknown Reason = "OUTCOME_UNKNOWN" // the connection was lost for too long to learn what became of it
)

// EndOK is the reason of a pipe that ended well. It never is an error.
const EndOK Reason = "OK"

// Reasons of refusals. The comments in api/queue.proto say which request may get which, and what to do.
const (
	ReasonCredentialsMissing     Reason = "CREDENTIALS_MISSING"
	ReasonCredentialsInvalid     Reason = "CREDENTIALS_INVALID"
	ReasonOwnerChanged           Reason = "OWNER_CHANGED"
	ReasonNotReplicated          Reason = "NOT_REPLICATED"
	ReasonOwnerUnreachable       Reason = "OWNER_UNREACHABLE"
	ReasonServerOverloaded       Reason = "SERVER_OVERLOADED"
	ReasonDiskFull               Reason = "DISK_FULL"
	ReasonJournalSlow            Reason = "JOURNAL_SLOW"
	ReasonJournalFailed          Reason = "JOURNAL_FAILED"
	ReasonDraining               Reason = "DRAINING"
	ReasonHandleInvalid          Reason = "HANDLE_INVALID"
	ReasonHandleUnknown          Reason = "HANDLE_UNKNOWN"
	ReasonHandleExpired          Reason = "HANDLE_EXPIRED"
	ReasonHandleRevoked          Reason = "HANDLE_REVOKED"
	ReasonHandleKind             Reason = "HANDLE_KIND"
	ReasonHandleCycle            Reason = "HANDLE_CYCLE"
	ReasonSpliceTooDeep          Reason = "SPLICE_TOO_DEEP"
	ReasonHandlesTooMany         Reason = "HANDLES_TOO_MANY"
	ReasonHandleNameInvalid      Reason = "HANDLE_NAME_INVALID"
	ReasonQueueNameInvalid       Reason = "QUEUE_NAME_INVALID"
	ReasonQueueNotFound          Reason = "QUEUE_NOT_FOUND"
	ReasonQueueExists            Reason = "QUEUE_EXISTS"
	ReasonQueueNotEmpty          Reason = "QUEUE_NOT_EMPTY"
	ReasonQueueConfigInvalid     Reason = "QUEUE_CONFIG_INVALID"
	ReasonMessageUnknown         Reason = "MESSAGE_UNKNOWN"
	ReasonMessageIDsInvalid      Reason = "MESSAGE_IDS_INVALID"
	ReasonQueueFull              Reason = "QUEUE_FULL"
	ReasonTenantMismatch         Reason = "TENANT_MISMATCH"
	ReasonTenantQuota            Reason = "TENANT_QUOTA"
	ReasonPipeQuota              Reason = "PIPE_QUOTA"
	ReasonPipeFull               Reason = "PIPE_FULL"
	ReasonPayloadTooLarge        Reason = "PAYLOAD_TOO_LARGE"
	ReasonHeaderInvalid          Reason = "HEADER_INVALID"
	ReasonHeaderReserved         Reason = "HEADER_RESERVED"
	ReasonReplyToAndPipe         Reason = "REPLY_TO_AND_PIPE"
	ReasonPipeOptionsInvalid     Reason = "PIPE_OPTIONS_INVALID"
	ReasonKeyQuota               Reason = "KEY_QUOTA"
	ReasonIdempotencyKeyReused   Reason = "IDEMPOTENCY_KEY_REUSED"
	ReasonRepliesTrimmed         Reason = "REPLIES_TRIMMED"
	ReasonLeaseStale             Reason = "LEASE_STALE"
	ReasonLeaseUnknown           Reason = "LEASE_UNKNOWN"
	ReasonLeaseNotYours          Reason = "LEASE_NOT_YOURS"
	ReasonConsumerIDTaken        Reason = "CONSUMER_ID_TAKEN"
	ReasonConsumerTakenOver      Reason = "CONSUMER_TAKEN_OVER"
	ReasonConsumerUnknown        Reason = "CONSUMER_UNKNOWN"
	ReasonBatchTooLarge          Reason = "BATCH_TOO_LARGE"
	ReasonFrameTooLarge          Reason = "FRAME_TOO_LARGE"
	ReasonTooManyElements        Reason = "TOO_MANY_ELEMENTS"
	ReasonNestingTooDeep         Reason = "NESTING_TOO_DEEP"
	ReasonUnknownFieldsTooLarge  Reason = "UNKNOWN_FIELDS_TOO_LARGE"
	ReasonTooManyForgeries       Reason = "TOO_MANY_FORGERIES"
	ReasonDelayInvalid           Reason = "DELAY_INVALID"
	ReasonExpiryInvalid          Reason = "EXPIRY_INVALID"
	ReasonPriorityInvalid        Reason = "PRIORITY_INVALID"
	ReasonGroupInvalid           Reason = "GROUP_INVALID"
	ReasonIdempotencyKeyInvalid  Reason = "IDEMPOTENCY_KEY_INVALID"
	ReasonRequireConsumerInvalid Reason = "REQUIRE_CONSUMER_INVALID"
	ReasonBatchEmpty             Reason = "BATCH_EMPTY"
	ReasonQueuesInvalid          Reason = "QUEUES_INVALID"
	ReasonCreditInvalid          Reason = "CREDIT_INVALID"
	ReasonLeaseInvalid           Reason = "LEASE_INVALID"
	ReasonLeasesInvalid          Reason = "LEASES_INVALID"
	ReasonConsumerIDInvalid      Reason = "CONSUMER_ID_INVALID"
	ReasonErrorInvalid           Reason = "ERROR_INVALID"
	ReasonMoreInvalid            Reason = "MORE_INVALID"
	ReasonReplyIDInvalid         Reason = "REPLY_ID_INVALID"
	ReasonLeaseRequired          Reason = "LEASE_REQUIRED"
	ReasonSettleTooLarge         Reason = "SETTLE_TOO_LARGE"
	ReasonIntervalInvalid        Reason = "INTERVAL_INVALID"
	ReasonMaskInvalid            Reason = "MASK_INVALID"
	ReasonEnumUnknown            Reason = "ENUM_UNKNOWN"
	ReasonDurationInvalid        Reason = "DURATION_INVALID"
	ReasonTimestampInvalid       Reason = "TIMESTAMP_INVALID"
	ReasonSubjectMissing         Reason = "SUBJECT_MISSING"
	ReasonPageInvalid            Reason = "PAGE_INVALID"
	ReasonFrameMalformed         Reason = "FRAME_MALFORMED"
	ReasonHelloExpected          Reason = "HELLO_EXPECTED"
	ReasonVersionUnsupported     Reason = "VERSION_UNSUPPORTED"
	ReasonSessionIDInvalid       Reason = "SESSION_ID_INVALID"
	ReasonOpIDInvalid            Reason = "OP_ID_INVALID"
	ReasonOpMissing              Reason = "OP_MISSING"
	ReasonWindowExceeded         Reason = "WINDOW_EXCEEDED"
	ReasonSlowConsumer           Reason = "SLOW_CONSUMER"
	ReasonSessionTakenOver       Reason = "SESSION_TAKEN_OVER"
	ReasonInternal               Reason = "INTERNAL"
)

// endReason translates the wire's enum.
func endReason(r queuepb.EndReason) Reason {
	if s, ok := queuepb.EndReason_name[int32(r)]; ok {
		return Reason(s[len("END_REASON_"):])
	}
	return "UNSPECIFIED"
}

// endCode is the gRPC code of a pipe's end; a failed one has the code of its error.
func endCode(r Reason) codes.Code {
	switch r {
	case EndOK:
		return codes.OK
	case ErrExpired:
		return codes.DeadlineExceeded
	case ErrCancelled:
		return codes.Canceled
	case ErrNoConsumer, ErrShuttingDown:
		return codes.Unavailable
	case ErrRejected, ErrDeadLettered, ErrRevoked:
		return codes.FailedPrecondition
	case ErrPurged, ErrQueueDeleted, ErrDropped, ErrBroken, ErrLost:
		return codes.Aborted
	default:
		return codes.Unknown
	}
}
