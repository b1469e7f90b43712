package badinput

import (
	"encoding/base64"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

func notFound(reason, field string) Refusal { return Refusal{codes.NotFound, reason, field} }

func failed(reason, field string) Refusal { return Refusal{codes.FailedPrecondition, reason, field} }

// A carrier is a field that takes a handle of a kind.
type carrier struct {
	name string
	kind handles.Kind
	put  func(h *queuepb.Handle) proto.Message
	// field is the path of the field.
	field string
}

func carriers(f *Fixture) []carrier {
	message := func(m *queuepb.Message) proto.Message { return &queuepb.EnqueueRequest{Queue: "q", Message: m} }
	return []carrier{
		{"reply_to", handles.Send, func(h *queuepb.Handle) proto.Message {
			return message(&queuepb.Message{ReplyTo: h})
		}, "message.reply_to"},
		{"a handle among nine of a message", handles.Send, func(h *queuepb.Handle) proto.Message {
			return message(&queuepb.Message{Handles: named(9, "audit", h, f)})
		}, `message.handles["audit"]`},
		{"a handle of a call", handles.Receive, func(h *queuepb.Handle) proto.Message {
			return &queuepb.CallRequest{Queue: "q", Message: &queuepb.Message{Handles: named(1, "future", h, f)}}
		}, `message.handles["future"]`},
		{"a handle of a reply", handles.Receive, func(h *queuepb.Handle) proto.Message {
			return &queuepb.ReplyRequest{
				Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Payload{}, More: true, Handles: named(9, "audit", h, f),
			}
		}, `handles["audit"]`},
		{"Splice", handles.Receive, func(h *queuepb.Handle) proto.Message {
			return &queuepb.ReplyRequest{Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Splice{Splice: h}}
		}, "splice"},
		{"Receive", handles.Receive, func(h *queuepb.Handle) proto.Message { return &queuepb.ReceiveRequest{Handle: h} }, "handle"},
		{"Cancel", handles.Receive, func(h *queuepb.Handle) proto.Message { return &queuepb.CancelRequest{Handle: h} }, "handle"},
		{"Describe", handles.Send, func(h *queuepb.Handle) proto.Message { return &queuepb.DescribeRequest{Handle: h} }, "handle"},
		{"EndPipe", handles.Send, func(h *queuepb.Handle) proto.Message {
			return &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: h}}
		}, "handle"},
	}
}

// handleRows put everything that is no good handle into everything that takes one.
func handleRows(f *Fixture) []Row {
	var rows []Row
	for _, c := range carriers(f) {
		genuine := f.Pipe.Send
		if c.kind == handles.Receive {
			genuine = f.Pipe.Receive
		}
		for name, text := range malformed(genuine.Token) {
			if strings.Contains(name, ",") && c.name != "Receive" {
				continue // the parser is the same everywhere
			}
			rows = append(rows, refused(c.name+": "+name, c.put(token(text)), invalid("HANDLE_INVALID", c.field)))
		}
		rows = append(rows,
			refused(c.name+": damaged", c.put(flipped(genuine)), invalid("HANDLE_INVALID", c.field)),
			refused(c.name+": another tenant's", c.put(f.foreign(c.kind)), notFound("HANDLE_UNKNOWN", c.field)),
			refused(c.name+": unknown", c.put(f.unknown(c.kind)), notFound("HANDLE_UNKNOWN", c.field)),
			refused(c.name+": slot reused", c.put(f.reused(c.kind)), notFound("HANDLE_UNKNOWN", c.field)),
			refused(c.name+": no such shard", c.put(f.noShard(c.kind)), notFound("HANDLE_UNKNOWN", c.field)),
			refused(c.name+": expired", c.put(f.expired(c.kind)), failed("HANDLE_EXPIRED", c.field)),
		)
		if c.name != "Describe" {
			rows = append(rows, refused(c.name+": a lease", c.put(f.Lease), invalid("HANDLE_KIND", c.field)))
		}
	}
	return append(rows,
		refused("Receive: a send handle", &queuepb.ReceiveRequest{Handle: f.Pipe.Send}, invalid("HANDLE_KIND", "handle")),
		refused("Cancel: a send handle", &queuepb.CancelRequest{Handle: f.Pipe.Send}, invalid("HANDLE_KIND", "handle")),
		refused("Reply: a receive handle", &queuepb.ReplyRequest{Handle: f.Pipe.Receive}, invalid("HANDLE_KIND", "handle")),
		refused("Reply: a lease", &queuepb.ReplyRequest{Handle: f.Lease}, invalid("HANDLE_KIND", "handle")),
		refused("Reply: damaged", &queuepb.ReplyRequest{Handle: flipped(f.Pipe.Send)}, invalid("HANDLE_INVALID", "handle")),
		refused("Reply: none", &queuepb.ReplyRequest{}, invalid("HANDLE_INVALID", "handle")),
		refused("Receive: none", &queuepb.ReceiveRequest{}, invalid("HANDLE_INVALID", "handle")),
		refused("reply_to: a receive handle", &queuepb.EnqueueRequest{
			Queue: "q", Message: &queuepb.Message{ReplyTo: f.Pipe.Receive},
		}, invalid("HANDLE_KIND", "message.reply_to")),
		refused("Splice: a send handle", &queuepb.ReplyRequest{
			Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Splice{Splice: f.Pipe.Send},
		}, invalid("HANDLE_KIND", "splice")),
		refused("Splice: of a pipe into itself", &queuepb.ReplyRequest{
			Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Splice{Splice: f.Pipe.Receive},
		}, failed("HANDLE_CYCLE", "splice")),
		refused("Splice: the seventeenth", &queuepb.ReplyRequest{
			Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Splice{Splice: f.Chain.Receive},
		}, failed("SPLICE_TOO_DEEP", "splice")),
	)
}

// malformed are tokens that are none, made of one that is.
func malformed(text string) map[string]string {
	prefix, body := text[:5], text[5:]
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return map[string]string{"the fixture's own": text} // which is then not refused, and fails
	}
	with := func(i int, v byte) string {
		c := append([]byte(nil), b...)
		c[i] = v
		return prefix + base64.RawURLEncoding.EncodeToString(c)
	}
	return map[string]string{
		"no token":                  "token",
		"47 bytes":                  prefix + base64.RawURLEncoding.EncodeToString(b[:47]),
		"form, empty":               "",
		"form, 49 bytes":            prefix + base64.RawURLEncoding.EncodeToString(append(b, 0)),
		"form, version 2":           with(0, 2<<4|b[0]&0xf),
		"form, kind 0":              with(0, 1<<4),
		"form, kind 15":             with(0, 1<<4|15),
		"form, unknown key":         with(1, 200),
		"form, reserved bit":        with(3, 1),
		"form, tenant 0":            with(4, 0)[:5] + strings.Repeat("A", 64),
		"form, all zero":            prefix + strings.Repeat("A", 64),
		"form, all ones":            prefix + strings.Repeat("_", 64),
		"form, attempt of no lease": with(11, 1),
		"text, padding":             text + "=",
		"text, blank before":        " " + text,
		"text, blank inside":        text[:30] + " " + text[31:],
		"text, line break":          text + "\n",
		"text, +":                   text[:30] + "+" + text[31:],
		"text, /":                   text[:30] + "/" + text[31:],
		"text, NUL":                 text[:30] + "\x00" + text[31:],
		"text, trailing bits":       prefix + base64.RawURLEncoding.EncodeToString(b[:47])[:62] + "_",
		"text, prefix in capitals":  strings.ToUpper(prefix) + body,
		"text, no prefix":           body,
		"text, twice":               text + text,
	}
}
