package main

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/client"
)

type replyCmd struct {
	Handle  handleArg `arg:"" help:"The send handle."`
	Payload *string   `arg:"" optional:"" help:"The payload, or - for standard input. None: end the pipe without a further reply."`
	More    bool      `help:"Keep the pipe open for further replies."`
	contentFlagsReply
	Error   *string   `placeholder:"TEXT" help:"End the pipe as failed, with this text."`
	Code    grpcCode  `default:"UNKNOWN" placeholder:"CODE" help:"With --error: its gRPC code, a name or a number (${default})."`
	Reason  string    `placeholder:"REASON" help:"With --error: its machine-readable reason, in UPPER_SNAKE_CASE."`
	Splice  handleArg `placeholder:"HANDLE" help:"Let the pipe go on with the replies of another one, by that one's receive handle."`
	Lease   handleArg `placeholder:"HANDLE" help:"The lease of the delivery that is answered: refused if it was lost."`
	Ack     bool      `help:"With --lease: ack the message in the same step."`
	ReplyID string    `placeholder:"ID" help:"One effect, however often the reply is sent with this id."`
}

// contentFlagsReply is contentFlags under another name, for the order of the help.
type contentFlagsReply = contentFlags

// Help is shown by reply --help.
func (replyCmd) Help() string {
	return "Prints what became of the reply: delivered (somebody waits), buffered (kept for whoever comes), ended or unknown " +
		"(it reached nobody, exit code 1).\n\n" + jsonHelp("outcome")
}

// Run replies.
func (c *replyCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	var payload []byte
	if c.Payload != nil {
		var err error
		if payload, err = a.payload(*c.Payload); err != nil {
			return err
		}
	}
	if err := a.connect(); err != nil {
		return err
	}
	outcome, err := c.send(a, payload)
	if err != nil {
		return err
	}
	switch {
	case a.JSON:
		a.emit(&outcomeRecord{
			Type: "outcome", Outcome: outcome.Status.String(), EndReason: string(outcome.Reason), Sequence: outcome.Sequence})
	case outcome.Sequence > 0:
		a.print(fmt.Sprintf("%v as number %d\n", outcome.Status, outcome.Sequence))
	default:
		a.print(outcome.Status.String() + "\n")
	}
	if outcome.Gone() {
		return &nobodyError{outcome}
	}
	return nil
}

func (c *replyCmd) check() error {
	bodies := 0
	for _, set := range []bool{c.Payload != nil, c.Error != nil, !c.Splice.handle.IsZero()} {
		if set {
			bodies++
		}
	}
	switch {
	case bodies > 1:
		return usageError("give one of PAYLOAD, --error and --splice")
	case c.More && c.Payload == nil:
		return usageError("--more needs a PAYLOAD: anything else ends the pipe")
	case c.Ack && c.Lease.handle.IsZero():
		return usageError("--ack needs --lease")
	case c.Error == nil && c.Reason != "":
		return usageError("--reason needs --error")
	}
	return nil
}

func (c *replyCmd) send(a *app, payload []byte) (client.ReplyOutcome, error) {
	var options []client.ReplyOption
	if c.More {
		options = append(options, client.WithMore())
	}
	if !c.Lease.handle.IsZero() {
		options = append(options, client.WithLease(c.Lease.handle))
	}
	if c.Ack {
		options = append(options, client.WithAck())
	}
	if c.ReplyID != "" {
		options = append(options, client.WithReplyID(c.ReplyID))
	}
	to := c.Handle.handle
	switch {
	case c.Error != nil:
		err := &client.Error{Code: codes.Code(c.Code), Reason: client.Reason(c.Reason), Message: *c.Error}
		return a.client.ReplyError(a.ctx, to, err, options...)
	case !c.Splice.handle.IsZero():
		return a.client.Splice(a.ctx, to, c.Splice.handle, options...)
	case c.Payload == nil:
		return a.client.ReplyEnd(a.ctx, to, options...)
	default:
		return a.client.Reply(a.ctx, to, c.answer(payload), options...)
	}
}

// grpcCode is a gRPC code on the command line, by name or number.
type grpcCode codes.Code

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *grpcCode) UnmarshalText(text []byte) error {
	var code codes.Code
	word := strings.ToUpper(string(text))
	if _, err := strconv.Atoi(word); err != nil {
		word = strconv.Quote(word)
	}
	if err := code.UnmarshalJSON([]byte(word)); err != nil || code == codes.OK {
		return fmt.Errorf("%q is no gRPC code of an error: e.g. NOT_FOUND or 5", text)
	}
	*c = grpcCode(code)
	return nil
}
