package broker

import (
	"strings"
	"time"
)

// Code is the class of an [Error], named and numbered like gRPC's status codes.
type Code uint8

// The codes in use.
const (
	CodeCancelled          Code = 1
	CodeInvalidArgument    Code = 3
	CodeDeadlineExceeded   Code = 4
	CodeNotFound           Code = 5
	CodeAlreadyExists      Code = 6
	CodePermissionDenied   Code = 7
	CodeResourceExhausted  Code = 8
	CodeFailedPrecondition Code = 9
	CodeAborted            Code = 10
	CodeOutOfRange         Code = 11
	CodeUnimplemented      Code = 12
	CodeInternal           Code = 13
	CodeUnavailable        Code = 14
	CodeUnauthenticated    Code = 16
)

// Reason names exactly what is wrong; docs/errors.md lists every one.
type Reason string

// The reasons that the broker gives. Those of form are the server's.
const (
	ReasonHandleUnknown     Reason = "HANDLE_UNKNOWN"
	ReasonHandleKind        Reason = "HANDLE_KIND"
	ReasonHandleCycle       Reason = "HANDLE_CYCLE"
	ReasonSpliceTooDeep     Reason = "SPLICE_TOO_DEEP"
	ReasonQueueNotFound     Reason = "QUEUE_NOT_FOUND"
	ReasonQueueExists       Reason = "QUEUE_EXISTS"
	ReasonQueueNotEmpty     Reason = "QUEUE_NOT_EMPTY"
	ReasonQueueFull         Reason = "QUEUE_FULL"
	ReasonMessageUnknown    Reason = "MESSAGE_UNKNOWN"
	ReasonNoConsumer        Reason = "NO_CONSUMER"
	ReasonDelayInvalid      Reason = "DELAY_INVALID"
	ReasonLeaseStale        Reason = "LEASE_STALE"
	ReasonLeaseUnknown      Reason = "LEASE_UNKNOWN"
	ReasonLeaseInvalid      Reason = "LEASE_INVALID"
	ReasonLeaseNotYours     Reason = "LEASE_NOT_YOURS"
	ReasonKeyReused         Reason = "IDEMPOTENCY_KEY_REUSED"
	ReasonKeyQuota          Reason = "KEY_QUOTA"
	ReasonPipeFull          Reason = "PIPE_FULL"
	ReasonRepliesTrimmed    Reason = "REPLIES_TRIMMED"
	ReasonConsumerTaken     Reason = "CONSUMER_ID_TAKEN"
	ReasonConsumerTakenOver Reason = "CONSUMER_TAKEN_OVER"
	ReasonConsumerUnknown   Reason = "CONSUMER_UNKNOWN"
	ReasonDraining          Reason = "DRAINING"
	ReasonDiskFull          Reason = "DISK_FULL"
	ReasonJournalSlow       Reason = "JOURNAL_SLOW"
	ReasonJournalFailed     Reason = "JOURNAL_FAILED"
	ReasonOwnerChanged      Reason = "OWNER_CHANGED"
	ReasonServerOverloaded  Reason = "SERVER_OVERLOADED"
	ReasonTenantQuota       Reason = "TENANT_QUOTA"
	ReasonPipeQuota         Reason = "PIPE_QUOTA"
)

// An Error says what is wrong with an operation. It is an event's body where an operation is refused; the operation has
// then changed nothing. It may also say why a session was cut off, see [Session.CutOff].
type Error struct {
	Code   Code
	Reason Reason
	// Field is the path of the field that is wrong, in the words of the wire contract; empty if it is none.
	Field string
	// Text is a sentence that says what to do. It holds no handle and no payload.
	Text string
	// RetryAfter is how long to wait before repeating; 0 where that does not help.
	RetryAfter time.Duration
	// OutcomeUnknown says that what was asked may have been carried out.
	OutcomeUnknown bool
	// Metadata has further facts, e.g. first_sequence.
	Metadata map[string]string
}

// Error gives code-free text: reason, field and sentence.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Reason))
	if e.Field != "" {
		b.WriteString(": ")
		b.WriteString(e.Field)
	}
	b.WriteString(": ")
	b.WriteString(e.Text)
	return b.String()
}

// Is lets errors.Is compare by reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}
