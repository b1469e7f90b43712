package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// errorDomain is the domain of the service's ErrorInfo.
const errorDomain = "replyq"

// ErrorOutcome says whether a request that failed may have been carried out.
type ErrorOutcome int32

// The outcomes of a request that failed.
const (
	OutcomeUnspecified ErrorOutcome = 0 // not known to be either; treat it as unknown
	OutcomeNotApplied  ErrorOutcome = 1 // nothing was changed
	OutcomeUnknown     ErrorOutcome = 2 // it may or may not have been carried out
)

// Error is what went wrong: with a request, or, inside an [EndError], with the work of a replier. A handler that returns
// one sends it to the waiter with Code, Reason, Message, Metadata and Details.
type Error struct {
	// Code is the gRPC code, never OK.
	Code codes.Code
	// Reason is machine-readable; errors.Is compares it.
	Reason Reason
	// Message is a sentence for people.
	Message string
	// Field is the path of the field that is wrong, e.g. message.handles["audit"]. Set by the server.
	Field string
	// RetryAfter is how long to wait before repeating; 0 where waiting does not help. Set by the server.
	RetryAfter time.Duration
	// Outcome says whether the request may have been carried out. Set by the server or by the client.
	Outcome ErrorOutcome
	// Metadata holds further facts.
	Metadata map[string]string
	// Details are typed details of the application.
	Details []*anypb.Any

	cause error // what the client itself met: a context's error, a failed dial
}

// Error returns the message with reason, code and field.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Message == "" {
		b.WriteString("refused")
	}
	fmt.Fprintf(&b, " (%v", e.Code)
	if e.Reason != "" {
		b.WriteString(" " + string(e.Reason))
	}
	if e.Field != "" {
		b.WriteString(", field " + e.Field)
	}
	b.WriteString(")")
	return b.String()
}

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r != "" && r == e.Reason
}

// Unwrap returns what caused the error on the client's side, such as the error of a context; mostly nil.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns the error as a gRPC status with ErrorInfo, BadRequest and RetryInfo, so that status.FromError and
// status.Code understand it, and a server may pass it on.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.Code, e.Message)
	p := s.Proto()
	for _, m := range e.statusDetails() {
		if a, err := anypb.New(m); err == nil {
			p.Details = append(p.Details, a)
		}
	}
	p.Details = append(p.Details, e.Details...)
	return status.FromProto(p)
}

func (e *Error) statusDetails() []proto.Message {
	var details []proto.Message
	if e.Reason != "" {
		info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: errorDomain, Metadata: maps.Clone(e.Metadata)}
		if o := outcomeText(e.Outcome); o != "" {
			if info.Metadata == nil {
				info.Metadata = map[string]string{}
			}
			info.Metadata["outcome"] = o
		}
		details = append(details, info)
	}
	if e.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: e.Field, Description: e.Message, Reason: string(e.Reason)},
		}})
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	return details
}

// EndError says that a pipe ended otherwise than OK.
type EndError struct {
	// Reason is one of ErrFailed, ErrExpired and so on; errors.Is compares it.
	Reason Reason
	// Err has the details: with ErrFailed what the replier sent. Never nil.
	Err *Error
	// LastSequence is the sequence of the last reply, 0 if there was none.
	LastSequence uint64
}

// Error returns why the pipe ended.
func (e *EndError) Error() string {
	return "pipe ended " + string(e.Reason) + ": " + e.Err.Error()
}

// Is reports whether target is the end's [Reason]. An expired pipe is also a context.DeadlineExceeded, so that a caller
// whose deadline became the pipe's sees one error, whichever of the two clocks was first.
func (e *EndError) Is(target error) bool {
	if r, ok := target.(Reason); ok {
		return r != "" && r == e.Reason
	}
	return target == context.DeadlineExceeded && e.Reason == ErrExpired
}

// Unwrap returns the [*Error] with the details.
func (e *EndError) Unwrap() error { return e.Err }

// GRPCStatus returns the end as a gRPC status.
func (e *EndError) GRPCStatus() *status.Status { return e.Err.GRPCStatus() }

// newEndError turns a pipe's end into an error, nil if it ended OK.
func newEndError(end *queuepb.End) error {
	reason := endReason(end.GetReason())
	if reason == EndOK {
		return nil
	}
	err := fromWire(end.GetError())
	if end.GetError() == nil {
		err = &Error{Code: endCode(reason), Reason: reason, Message: "the pipe ended"}
	}
	return &EndError{Reason: reason, Err: err, LastSequence: end.GetLastSequence()}
}

// lostError is the end of a pipe that a server without a journal has forgotten by starting anew.
func lostError() error {
	return &EndError{Reason: ErrLost, Err: &Error{
		Code: codes.Aborted, Reason: ErrLost, Message: "the server was started anew and keeps no journal: the pipe is gone",
	}}
}

// fromWire takes over the wire's Error. Its strings are copied: the buffer they came in is reused.
func fromWire(p *queuepb.Error) *Error {
	e := &Error{
		Code:    codes.Code(p.GetCode()),
		Reason:  Reason(strings.Clone(p.GetReason())),
		Message: strings.Clone(p.GetMessage()),
		Field:   strings.Clone(p.GetField()),
		Outcome: ErrorOutcome(p.GetOutcome()),
	}
	if p.GetCode() < 1 || p.GetCode() > 16 {
		e.Code = codes.Unknown
	}
	if p.GetRetryAfter() != nil {
		e.RetryAfter = p.GetRetryAfter().AsDuration()
	}
	for k, v := range p.GetMetadata() {
		if e.Metadata == nil {
			e.Metadata = make(map[string]string, len(p.GetMetadata()))
		}
		e.Metadata[strings.Clone(k)] = strings.Clone(v)
	}
	for _, d := range p.GetDetails() {
		e.Details = append(e.Details, &anypb.Any{TypeUrl: strings.Clone(d.GetTypeUrl()), Value: slices.Clone(d.GetValue())})
	}
	return e
}

// toWire is what a replier may send of an error. Any error will do: an [*Error] or a gRPC status keeps its parts, an
// [*EndError] those of the pipe it came from; anything else is UNKNOWN with its text. Messages are cut to what the
// server takes.
func toWire(err error) *queuepb.Error {
	var e *Error
	if !errors.As(err, &e) {
		e = fromStatus(err, nil)
	}
	p := &queuepb.Error{
		Code: int32(e.Code), Reason: string(e.Reason), Message: cut(e.Message, maxErrorMessage),
		Metadata: e.Metadata, Details: e.Details,
	}
	if p.Code < 1 || p.Code > 16 {
		p.Code = int32(codes.Unknown)
	}
	return p
}

// maxErrorMessage is how long the server lets a replier's message be.
const maxErrorMessage = 4096

// cut shortens s to n bytes of valid UTF-8, which the wire demands.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// fromStatus turns the error of an RPC, or of the stream itself, into an [*Error]. Reason and field come from the
// status's details, or else from the trailers that the server sends for clients without these types.
func fromStatus(err error, trailer metadata.MD) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	e = &Error{Code: s.Code(), Message: s.Message(), cause: err}
	for _, d := range s.Details() {
		e.takeDetail(d)
	}
	if v := trailer.Get("replyq-reason"); e.Reason == "" && len(v) > 0 {
		e.Reason = Reason(v[0])
	}
	if v := trailer.Get("replyq-field"); e.Field == "" && len(v) > 0 {
		e.Field = v[0]
	}
	return e
}

func (e *Error) takeDetail(detail any) {
	switch d := detail.(type) {
	case *errdetails.ErrorInfo:
		e.Reason = Reason(d.GetReason())
		e.Metadata = maps.Clone(d.GetMetadata())
		e.Outcome = outcomeOf(e.Metadata["outcome"])
		delete(e.Metadata, "outcome")
	case *errdetails.BadRequest:
		if v := d.GetFieldViolations(); len(v) > 0 {
			e.Field = v[0].GetField()
		}
	case *errdetails.RetryInfo:
		e.RetryAfter = d.GetRetryDelay().AsDuration()
	case proto.Message:
		if a, err := anypb.New(d); err == nil {
			e.Details = append(e.Details, a)
		}
	}
}

func outcomeText(o ErrorOutcome) string {
	switch o {
	case OutcomeNotApplied:
		return "NOT_APPLIED"
	case OutcomeUnknown:
		return "UNKNOWN"
	default:
		return ""
	}
}

func outcomeOf(s string) ErrorOutcome {
	switch strings.TrimPrefix(s, "ERROR_OUTCOME_") {
	case "NOT_APPLIED":
		return OutcomeNotApplied
	case "UNKNOWN":
		return OutcomeUnknown
	default:
		return OutcomeUnspecified
	}
}

// repeatAfter tells whether the server asks for the same request once more, and when: the request was not carried out,
// and waiting is said to help.
func (e *Error) repeatAfter() (time.Duration, bool) {
	switch e.Code {
	case codes.ResourceExhausted:
	case codes.Unavailable:
		if e.Outcome == OutcomeUnknown {
			return 0, false
		}
	default:
		return 0, false
	}
	return e.RetryAfter, e.RetryAfter > 0
}

// contextError is the error of a call whose context ended; what says what the call was waiting for.
func contextError(ctx context.Context, what string, outcome ErrorOutcome) *Error {
	code := codes.Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	text := ctx.Err().Error()
	cause := context.Cause(ctx)
	if !errors.Is(cause, ctx.Err()) {
		text += ": " + cause.Error()
		cause = errors.Join(ctx.Err(), cause)
	}
	return &Error{Code: code, Message: text + " while " + what, Outcome: outcome, cause: cause}
}

// closedError is the error of everything that a closed client is asked.
func closedError(outcome ErrorOutcome) *Error {
	return &Error{Code: codes.Canceled, Reason: ErrClosed, Message: "the client was closed", Outcome: outcome}
}
