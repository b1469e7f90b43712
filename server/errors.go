package server

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// The reasons that the server gives by itself: those of form, of identity and of the session. The broker's stand in its
// own package. docs/errors.md lists both, and a test compares.
const (
	reasonBatchEmpty             broker.Reason = "BATCH_EMPTY"
	reasonBatchTooLarge          broker.Reason = "BATCH_TOO_LARGE"
	reasonConsumerIDInvalid      broker.Reason = "CONSUMER_ID_INVALID"
	reasonCredentialsInvalid     broker.Reason = "CREDENTIALS_INVALID"
	reasonCredentialsMissing     broker.Reason = "CREDENTIALS_MISSING"
	reasonCreditInvalid          broker.Reason = "CREDIT_INVALID"
	reasonDurationInvalid        broker.Reason = "DURATION_INVALID"
	reasonEnumUnknown            broker.Reason = "ENUM_UNKNOWN"
	reasonErrorInvalid           broker.Reason = "ERROR_INVALID"
	reasonExpiryInvalid          broker.Reason = "EXPIRY_INVALID"
	reasonFrameMalformed         broker.Reason = "FRAME_MALFORMED"
	reasonFrameTooLarge          broker.Reason = "FRAME_TOO_LARGE"
	reasonGroupInvalid           broker.Reason = "GROUP_INVALID"
	reasonHandleExpired          broker.Reason = "HANDLE_EXPIRED"
	reasonHandleInvalid          broker.Reason = "HANDLE_INVALID"
	reasonHandleNameInvalid      broker.Reason = "HANDLE_NAME_INVALID"
	reasonHandleRevoked          broker.Reason = "HANDLE_REVOKED"
	reasonHandlesTooMany         broker.Reason = "HANDLES_TOO_MANY"
	reasonHeaderInvalid          broker.Reason = "HEADER_INVALID"
	reasonHeaderReserved         broker.Reason = "HEADER_RESERVED"
	reasonHelloExpected          broker.Reason = "HELLO_EXPECTED"
	reasonIdempotencyKeyInvalid  broker.Reason = "IDEMPOTENCY_KEY_INVALID"
	reasonInternal               broker.Reason = "INTERNAL"
	reasonIntervalInvalid        broker.Reason = "INTERVAL_INVALID"
	reasonLeaseInvalid           broker.Reason = "LEASE_INVALID"
	reasonLeaseRequired          broker.Reason = "LEASE_REQUIRED"
	reasonLeasesInvalid          broker.Reason = "LEASES_INVALID"
	reasonMaskInvalid            broker.Reason = "MASK_INVALID"
	reasonMessageIDsInvalid      broker.Reason = "MESSAGE_IDS_INVALID"
	reasonMoreInvalid            broker.Reason = "MORE_INVALID"
	reasonNestingTooDeep         broker.Reason = "NESTING_TOO_DEEP"
	reasonNotReplicated          broker.Reason = "NOT_REPLICATED"
	reasonOpIDInvalid            broker.Reason = "OP_ID_INVALID"
	reasonOpMissing              broker.Reason = "OP_MISSING"
	reasonOwnerUnreachable       broker.Reason = "OWNER_UNREACHABLE"
	reasonPageInvalid            broker.Reason = "PAGE_INVALID"
	reasonPayloadTooLarge        broker.Reason = "PAYLOAD_TOO_LARGE"
	reasonPipeOptionsInvalid     broker.Reason = "PIPE_OPTIONS_INVALID"
	reasonPriorityInvalid        broker.Reason = "PRIORITY_INVALID"
	reasonQueueConfigInvalid     broker.Reason = "QUEUE_CONFIG_INVALID"
	reasonQueueNameInvalid       broker.Reason = "QUEUE_NAME_INVALID"
	reasonQueuesInvalid          broker.Reason = "QUEUES_INVALID"
	reasonReplyIDInvalid         broker.Reason = "REPLY_ID_INVALID"
	reasonReplyToAndPipe         broker.Reason = "REPLY_TO_AND_PIPE"
	reasonRequireConsumerInvalid broker.Reason = "REQUIRE_CONSUMER_INVALID"
	reasonSessionIDInvalid       broker.Reason = "SESSION_ID_INVALID"
	reasonSessionTakenOver       broker.Reason = "SESSION_TAKEN_OVER"
	reasonSettleTooLarge         broker.Reason = "SETTLE_TOO_LARGE"
	reasonSlowConsumer           broker.Reason = "SLOW_CONSUMER"
	reasonSubjectMissing         broker.Reason = "SUBJECT_MISSING"
	reasonTenantMismatch         broker.Reason = "TENANT_MISMATCH"
	reasonTimestampInvalid       broker.Reason = "TIMESTAMP_INVALID"
	reasonTooManyElements        broker.Reason = "TOO_MANY_ELEMENTS"
	reasonTooManyForgeries       broker.Reason = "TOO_MANY_FORGERIES"
	reasonUnknownFieldsTooLarge  broker.Reason = "UNKNOWN_FIELDS_TOO_LARGE"
	reasonVersionUnsupported     broker.Reason = "VERSION_UNSUPPORTED"
	reasonWindowExceeded         broker.Reason = "WINDOW_EXCEEDED"
)

// codeOf has the code of each reason that is not INVALID_ARGUMENT, which most of the server's are.
var codeOf = map[broker.Reason]broker.Code{
	reasonCredentialsInvalid:    broker.CodeUnauthenticated,
	reasonCredentialsMissing:    broker.CodeUnauthenticated,
	reasonHandleExpired:         broker.CodeFailedPrecondition,
	reasonHandleRevoked:         broker.CodeFailedPrecondition,
	reasonHelloExpected:         broker.CodeFailedPrecondition,
	reasonInternal:              broker.CodeInternal,
	reasonNotReplicated:         broker.CodeFailedPrecondition,
	reasonOwnerUnreachable:      broker.CodeUnavailable,
	reasonSessionTakenOver:      broker.CodeAborted,
	reasonSlowConsumer:          broker.CodeResourceExhausted,
	reasonTenantMismatch:        broker.CodePermissionDenied,
	reasonVersionUnsupported:    broker.CodeFailedPrecondition,
	reasonTooManyForgeries:      broker.CodeResourceExhausted,
	reasonWindowExceeded:        broker.CodeResourceExhausted,
	broker.ReasonDraining:       broker.CodeUnavailable,
	broker.ReasonHandleUnknown:  broker.CodeNotFound,
	broker.ReasonLeaseUnknown:   broker.CodeNotFound,
	broker.ReasonMessageUnknown: broker.CodeNotFound,
}

// refuse makes an error of the server's own. The text says what to do.
func refuse(reason broker.Reason, field, text string) *broker.Error {
	code, ok := codeOf[reason]
	if !ok {
		code = broker.CodeInvalidArgument
	}
	return &broker.Error{Code: code, Reason: reason, Field: field, Text: text}
}

// errInternal hides what went wrong; the log has it.
func errInternal() *broker.Error {
	return refuse(reasonInternal, "", "the server made a mistake; its log says which")
}

// What is another's looks like what never was, wherever it is found out: here, by its signature, or in the broker.
const (
	textHandleUnknown = "the server does not know this handle's pipe: it has been forgotten, or never was yours; open a new one"
	textLeaseUnknown  = "the server does not know this lease: drop the work, the message is somebody else's or was settled long ago"
)

// uniform gives an error that must not tell more than its reason the text that all of its kind have.
func uniform(e *broker.Error) *broker.Error {
	var text string
	switch e.Reason {
	case broker.ReasonHandleUnknown:
		text = textHandleUnknown
	case broker.ReasonLeaseUnknown:
		text = textLeaseUnknown
	default:
		return e
	}
	same := *e
	same.Text = text
	return &same
}

// drainRetry is how long clients of a server that goes down shall wait: the time another one needs to come up.
const drainRetry = time.Second

func errDraining() *broker.Error {
	e := refuse(broker.ReasonDraining, "", "the server is going down: come back in a moment, or use another one")
	e.RetryAfter = drainRetry
	return e
}

func errSlowConsumer() *broker.Error {
	return refuse(reasonSlowConsumer, "", "the session did not read what it had asked for: give less credit, or read faster")
}

// ownerRetry is how long clients shall wait for an owner.
const ownerRetry = 500 * time.Millisecond

// errOwnerUnreachable is for what was not carried out.
func errOwnerUnreachable() *broker.Error {
	e := refuse(reasonOwnerUnreachable, "", "no replica of the service serves just now, or this one cannot reach it: come back in a moment")
	e.RetryAfter = ownerRetry
	return e
}

// errOwnerLost is for what was under way.
func errOwnerLost() *broker.Error {
	e := errOwnerUnreachable()
	e.Text = "the replica that serves was lost while it worked on this: come back in a moment"
	e.OutcomeUnknown = true
	return e
}

// errOwnerChanged is for what was under way when another replica took over.
func errOwnerChanged() *broker.Error {
	return &broker.Error{
		Code: broker.CodeUnavailable, Reason: broker.ReasonOwnerChanged, OutcomeUnknown: true,
		Text: "another replica serves now: come back, here or elsewhere",
	}
}

// show prints what a client sent, for an error's text: at most 32 characters, escaped, and nothing at all where a token
// may have been put in the wrong field.
func show(s string) string {
	const limit = 32
	if strings.Contains(s, "qh1") || strings.Contains(s, keyPrefix) {
		return "(a secret)"
	}
	if len(s) <= limit {
		if q := strconv.QuoteToASCII(s); len(q) <= limit+2 {
			return q
		}
	}
	q := strconv.QuoteToASCII(s[:min(len(s), limit)])
	return q[:min(len(q)-1, limit+1)] + `..."`
}

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "replyq"

// Trailers carry reason and field for stubs that cannot read google.rpc types.
const (
	trailerReason = "replyq-reason"
	trailerField  = "replyq-field"
)

// maxTrailers is what all trailers of a call may come to, by the measure of HTTP/2 (each 32 bytes more than its name
// and value). Larger ones break clients: grpc-js and proxies have limits of a few KiB for all headers.
const maxTrailers = 1024

// toStatus turns an error of a handler into its gRPC status and trailers. A status passes as it is, and so do context
// errors with their code; what is neither is INTERNAL, and known is false, so that the caller logs it.
func toStatus(err error) (st *status.Status, trailers metadata.MD, known bool) {
	var (
		refused *broker.Error
		ended   *endError
	)
	switch {
	case err == nil:
		return nil, nil, true
	case errors.As(err, &ended):
		st, trailers = fitStatus(ended.code, ended.reason, "", ended.text, ended.details()...)
		return st, trailers, true
	case errors.As(err, &refused):
		refused = uniform(refused)
		st, trailers = fitStatus(codes.Code(refused.Code), string(refused.Reason), refused.Field, refused.Text,
			details(refused)...)
		return st, trailers, true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err), nil, true
	}
	if st, ok := status.FromError(err); ok {
		return st, nil, true
	}
	e := errInternal()
	st, trailers = fitStatus(codes.Internal, string(e.Reason), "", e.Text, details(e)...)
	return st, trailers, false
}

// details are the google.rpc messages for a refusal.
func details(e *broker.Error) []protoadapt.MessageV1 {
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: errorDomain, Metadata: e.Metadata}
	if e.OutcomeUnknown {
		info.Metadata = map[string]string{"outcome": "UNKNOWN"}
		maps.Copy(info.Metadata, e.Metadata)
	}
	all := []protoadapt.MessageV1{protoadapt.MessageV1Of(info)}
	if e.Field != "" && e.Code == broker.CodeInvalidArgument {
		all = append(all, protoadapt.MessageV1Of(&errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: e.Field}},
		}))
	}
	if e.RetryAfter > 0 {
		all = append(all, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}))
	}
	return all
}

// fitStatus makes a status whose trailers stay below maxTrailers: the text gives way.
func fitStatus(
	code codes.Code, reason, field, text string, details ...protoadapt.MessageV1,
) (*status.Status, metadata.MD) {
	trailers := metadata.MD{}
	if reason != "" {
		trailers.Set(trailerReason, reason)
	}
	if field != "" {
		trailers.Set(trailerField, field)
	}
	for {
		st := status.New(code, text)
		if with, err := st.WithDetails(details...); err == nil { // an error means code OK: nothing to explain
			st = with
		}
		over := trailerSize(st, trailers) - maxTrailers
		if over <= 0 {
			return st, trailers
		}
		if text == "" {
			return status.New(code, ""), trailers // details too large by themselves: reason and field must do
		}
		// The text stands in grpc-message as it is, or three times as long, and in the details as base64.
		text = cutText(text, len(text)-max(over/5, 1))
	}
}

// trailerSize is what a status and its trailers come to on the wire.
func trailerSize(st *status.Status, trailers metadata.MD) int {
	const overhead = 32
	size := len("grpc-status") + 2 + overhead
	size += len("grpc-message") + percentEncodedLen(st.Message()) + overhead
	if p := st.Proto(); len(p.GetDetails()) > 0 {
		size += len("grpc-status-details-bin") + (proto.Size(p)*4+2)/3 + overhead
	}
	for name, values := range trailers {
		for _, v := range values {
			size += len(name) + len(v) + overhead
		}
	}
	return size
}

// percentEncodedLen is how long gRPC makes a message: all but printable ASCII takes three characters.
func percentEncodedLen(s string) int {
	n := 0
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			n += 2
		}
		n++
	}
	return n
}

// cutText shortens s to n bytes, without cutting a character in two.
func cutText(s string, n int) string {
	if n >= len(s) {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:max(n, 0)]
}

// toError is a refusal inside a session.
func toError(e *broker.Error) *queuepb.Error {
	e = uniform(e)
	out := &queuepb.Error{
		Code:     int32(e.Code),
		Reason:   string(e.Reason),
		Message:  e.Text,
		Field:    e.Field,
		Outcome:  queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED,
		Metadata: e.Metadata,
	}
	if e.OutcomeUnknown {
		out.Outcome = queuepb.ErrorOutcome_ERROR_OUTCOME_UNKNOWN
	}
	if e.RetryAfter > 0 {
		out.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return out
}

// under returns the error with its field moved under a path, for requests inside requests: replies[2].payload.
func under(path string, e *broker.Error) *broker.Error {
	if e == nil || path == "" {
		return e
	}
	moved := *e
	moved.Field = path
	if e.Field != "" {
		moved.Field += "." + e.Field
	}
	return &moved
}

// metadataEndReason names an End's reason in the metadata of an ErrorInfo.
const metadataEndReason = "end_reason"

// An endError is the status of a stream that saw its pipe end otherwise than OK.
type endError struct {
	code   codes.Code
	reason string // the End's reason, or a replier's own
	end    string // the name of the EndReason
	text   string
}

func (e *endError) Error() string { return e.reason + ": " + e.text }

func (e *endError) details() []protoadapt.MessageV1 {
	return []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{
		Reason:   e.reason,
		Domain:   errorDomain,
		Metadata: map[string]string{metadataEndReason: e.end},
	})}
}

// endCodes is the table of the ends: their names in errors, their codes, and what they mean to a waiter when the broker
// has no better sentence.
var endCodes = [...]struct {
	name string
	code codes.Code
	text string
}{
	broker.EndOpen:         {"OPEN", codes.Internal, "the pipe is open"}, // unreachable: not an end
	broker.EndOK:           {"OK", codes.OK, ""},
	broker.EndFailed:       {"FAILED", codes.Unknown, "the work failed"},
	broker.EndExpired:      {"EXPIRED", codes.DeadlineExceeded, "no answer came before the deadline"},
	broker.EndCancelled:    {"CANCELLED", codes.Canceled, "the pipe was cancelled"},
	broker.EndNoConsumer:   {"NO_CONSUMER", codes.Unavailable, "the last consumer left before delivery"},
	broker.EndRejected:     {"REJECTED", codes.FailedPrecondition, "a consumer rejected the message"},
	broker.EndDeadLettered: {"DEAD_LETTERED", codes.FailedPrecondition, "the message ran out of attempts"},
	broker.EndPurged:       {"PURGED", codes.Aborted, "the message was removed from its queue"},
	broker.EndQueueDeleted: {"QUEUE_DELETED", codes.Aborted, "the message's queue was deleted"},
	broker.EndDropped:      {"DROPPED", codes.Aborted, "the message was dropped from a full queue"},
	broker.EndBroken:       {"BROKEN", codes.Aborted, "the message was acked without an answer: nobody can reply any more"},
	broker.EndRevoked:      {"REVOKED", codes.FailedPrecondition, "an administrator ended the pipe"},
	broker.EndShuttingDown: {"SHUTTING_DOWN", codes.Unavailable, "the server was stopped, and it keeps no journal"},
	broker.EndLost:         {"LOST", codes.Aborted, "the pipe belonged to an earlier run of a server without a journal"},
}

// endName is an EndReason as errors spell it.
func endName(r broker.EndReason) string {
	if int(r) >= len(endCodes) {
		return strconv.Itoa(int(r))
	}
	return endCodes[r].name
}

// endStatus is the error with which a stream repeats its End; nil for OK.
func endStatus(end *broker.End) error {
	if end.Reason == broker.EndOK || int(end.Reason) >= len(endCodes) {
		return nil
	}
	row := endCodes[end.Reason]
	e := &endError{code: row.code, reason: row.name, end: row.name, text: row.text}
	if end.Text != "" {
		e.text = end.Text
	}
	if end.Reason == broker.EndFailed {
		e.fromReplier(end.Body)
	}
	return e
}

// fromReplier takes code, reason and message of a replier's error. Its details are in the End; trailers are too narrow.
func (e *endError) fromReplier(body []byte) {
	var own queuepb.Error
	if err := own.UnmarshalVT(body); err != nil {
		return // unreachable: checked when it was sent
	}
	if own.Code > 0 && own.Code <= int32(codes.Unauthenticated) {
		e.code = codes.Code(own.Code)
	}
	if own.Reason != "" {
		e.reason = own.Reason
	}
	if own.Message != "" {
		e.text = own.Message
	}
}

// endErrorOf is the Error of an End whose reason is the server's own.
func endErrorOf(end *broker.End) *queuepb.Error {
	row := endCodes[min(int(end.Reason), len(endCodes)-1)]
	text := row.text
	if end.Text != "" {
		text = end.Text
	}
	return &queuepb.Error{Code: int32(row.code), Reason: row.name, Message: text}
}
