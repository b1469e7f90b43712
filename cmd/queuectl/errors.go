package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/client"
)

// usageError is a mistake on the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// unreachableError says that no server answered, or that one is there and did not do in time what it was asked for.
type unreachableError struct {
	server  string
	answers bool
	err     error
}

func (e *unreachableError) Error() string {
	why := e.err.Error()
	// Mostly gRPC's sentence has a plainer one inside.
	if _, after, ok := strings.Cut(why, "Error while dialing: "); ok {
		why, _, _ = strings.Cut(after, `"`)
	}
	if e.answers {
		return fmt.Sprintf("the server at %s is there, but did not do this in time: %s", e.server, why)
	}
	return fmt.Sprintf("no replyq server answers at %s: %s", e.server, why)
}

func (e *unreachableError) Unwrap() error { return e.err }

// nobodyError says that a reply reached nobody.
type nobodyError struct{ outcome client.ReplyOutcome }

func (e *nobodyError) Error() string {
	if e.outcome.Status == client.ReplyEnded {
		return fmt.Sprintf("the reply reached nobody: the pipe had ended %s", e.outcome.Reason)
	}
	return "the reply reached nobody: the server does not know the pipe (any more)"
}

// fail tells an error and returns its exit code.
func (a *app) fail(err error, hint string) int {
	code := a.exitCode(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.JSON {
		_ = encodeLine(a.std.err, newErrorRecord(err, hint, code)) // there is nobody left to tell
		return code
	}
	fmt.Fprintln(a.std.err, "queuectl:", err)
	if hint != "" {
		fmt.Fprintln(a.std.err, "  try:", hint)
	}
	return code
}

func (a *app) exitCode(err error) int {
	var usage usageError
	var end *client.EndError
	var refused *client.Error
	var nobody *nobodyError
	var unwell *unwellError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case a.interrupted():
		return exitInterrupted
	case errors.Is(err, context.DeadlineExceeded): // an expired pipe, too
		return exitNoAnswer
	case errors.As(err, &end), errors.As(err, &nobody), errors.As(err, &unwell), errors.Is(err, client.ErrDraining):
		return exitEnded
	case errors.As(err, &refused):
		if (refused.Code == codes.Unavailable && refused.Reason != client.ErrNoConsumer) || refused.Code == codes.DeadlineExceeded {
			return exitNoAnswer
		}
		return exitRefused
	default:
		return exitEnded
	}
}

// hints say what to try, where the server's own words do not.
var hints = []struct {
	of   client.Reason
	hint string
}{
	{client.ReasonCredentialsMissing, "give an API key: REPLYQ_API_KEY or --api-key-file"},
	{client.ReasonCredentialsInvalid, "give another API key (REPLYQ_API_KEY or --api-key-file); queue-server new-api-key makes one"},
	{client.ReasonHandleInvalid, "copy the handle whole; handles of a server that has neither --data-dir nor --key-file end with its process"},
	{client.ReasonHandleKind, "send handles begin with qh1s_, receive handles with qh1r_, leases with qh1l_"},
	{client.ErrNoConsumer, "start a consumer, e.g. queuectl work QUEUE -- CMD, or leave --require-consumer out"},
	{client.ErrExpired, "more time with --timeout; queuectl queues shows whether anybody consumes the queue"},
	{client.ErrBroken, "have the consumer reply before it acks"},
	{client.ErrRejected, "look into the consumer's log: it took the message and refused it"},
	{client.ErrDeadLettered, "look into the consumers' logs: all attempts at the message failed"},
	{client.ErrShuttingDown, "send it again when the server is back"},
	{client.ErrLost, "send it again: the server was started anew and keeps nothing over a restart"},
	{client.ErrPurged, "send it again if it is still wanted: an administrator removed it"},
	{client.ErrQueueDeleted, "send it again, perhaps to another queue: an administrator deleted this one"},
	{client.ErrDropped, "send it again, or have the queue hold more: queuectl update QUEUE --max-length"},
	{client.ReasonQueueFull, "again later, or have the queue hold more: queuectl update QUEUE --max-length"},
	{client.ReasonQueueNotEmpty, "--force, or empty it first: queuectl purge"},
	{client.ReasonPipeFull, "again later, or have somebody read: queuectl receive"},
	{client.ReasonDiskFull, "make room on the server's disk: queuectl stats shows how much it wants"},
	{client.ReasonJournalSlow, "again in a moment: the server's disk does not keep up, queuectl stats shows how it does"},
	{client.ReasonJournalFailed, "see to the server's disk, and start the server again"},
	{client.ReasonOwnerChanged, "again in a moment: another replica is taking over"},
	{client.ReasonOwnerUnreachable, "again in a moment; queuectl cluster tells which replica serves, and what is wrong"},
	{client.ReasonNotReplicated, "queuectl info: it tells what the server keeps its queues in"},
	{client.ReasonDraining, "again in a moment: the server is going down, or another one is coming up"},
}

func (a *app) hint(err error) string {
	var unreachable *unreachableError
	switch {
	case errors.As(err, &unreachable) && unreachable.answers:
		return "again in a moment, with more --connect-timeout; queuectl cluster and queuectl stats show what is wrong"
	case unreachable != nil:
		return "start queue-server there, or name another address with --server or REPLYQ_ADDR"
	case a.interrupted():
		return ""
	}
	var e *client.Error
	errors.As(err, &e)
	if errors.Is(err, client.ReasonRepliesTrimmed) && e != nil {
		return "--from " + e.Metadata["first_sequence"] + ", the first that is still kept"
	}
	for _, h := range hints {
		if errors.Is(err, h.of) {
			return h.hint
		}
	}
	if e != nil && e.Outcome == client.OutcomeUnknown {
		return "find out first whether it was done: nobody can tell from here"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "more time with --timeout"
	}
	return ""
}
