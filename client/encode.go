package client

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/wire"
)

// Requests of the hot path are encoded by hand, straight from the caller's values into the bytes that go into a frame:
// building the generated structs first costs eight allocations a request. encode_test.go holds every field against the
// generated code. What is rare (consume, extend, describe ...) uses the generated code, see [appendRequest].
//
// All of these functions encode the fields of Operation except its id, which is known only when it is sent.

// Field numbers of Operation that are not requests.
const (
	fieldOperationID      = 1
	fieldOperationCredit  = 15
	fieldOperationPatient = 17
	fieldOperationTimeout = 16
)

func appendTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return wire.AppendSeconds(b, num, t.Unix(), int64(t.Nanosecond()))
}

// handleSize is the size of the message Handle with a token in it.
const handleSize = 2 + handles.TextSize

func appendHandle(b []byte, num protowire.Number, h handles.Handle) []byte {
	if h.IsZero() {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(handleSize))
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.BytesType), uint64(handles.TextSize))
	b, _ = h.AppendText(b) // its error is always nil
	return b
}

// appendToken is appendHandle for one that is only passed on, whatever its form.
func appendToken(b []byte, num protowire.Number, token string) []byte {
	if token == "" {
		return b
	}
	b, m := wire.Begin(b, num, handleSize)
	return m.End(wire.AppendText(b, 1, token))
}

func appendHeaders(b []byte, num protowire.Number, headers map[string]string) []byte {
	if len(headers) == 0 { // ranging over nothing takes longer than all else that is written for a small reply
		return b
	}
	for k, v := range headers {
		var m wire.Mark
		b, m = wire.Begin(b, num, len(k)+len(v)+6)
		b = wire.AppendText(b, 1, k)
		b = m.End(wire.AppendText(b, 2, v))
	}
	return b
}

func appendHandles(b []byte, num protowire.Number, named map[string]handles.Handle) []byte {
	if len(named) == 0 {
		return b
	}
	for k, h := range named {
		var m wire.Mark
		b, m = wire.Begin(b, num, len(k)+handleSize+4)
		b = wire.AppendText(b, 1, k)
		b = m.End(appendHandle(b, 2, h))
	}
	return b
}

func appendMessage(b []byte, num protowire.Number, msg *Message) []byte {
	b, m := wire.Begin(b, num, len(msg.Payload)+8)
	b = wire.AppendText(b, 2, msg.ContentType)
	b = appendHeaders(b, 3, msg.Headers)
	b = appendHandle(b, 4, msg.ReplyTo)
	b = appendHandles(b, 5, msg.Handles)
	if len(msg.Payload) > 0 { // last: so a large one is copied once, into memory that grows for it
		b = wire.AppendBytes(b, 1, msg.Payload)
	}
	return m.End(b)
}

func appendPipe(b []byte, num protowire.Number, p *PipeOptions, timeout time.Duration) []byte {
	b, m := wire.Begin(b, num, 16)
	if p.Timeout != 0 {
		timeout = p.Timeout
	}
	b = wire.AppendDuration(b, 1, timeout)
	b = appendHandle(b, 2, p.Parent)
	b = wire.AppendDuration(b, 3, p.DisconnectGrace)
	if p.KeepIfAbandoned {
		b = wire.AppendNumber(b, 4, 2)
	}
	b = wire.AppendNumber(b, 5, uint64(p.CapacityReplies))
	b = wire.AppendNumber(b, 6, p.CapacityBytes)
	b = wire.AppendDuration(b, 7, p.Retain)
	return m.End(b)
}

// appendEnqueue writes an EnqueueRequest, or with the same numbers a CallRequest.
func appendEnqueue(b []byte, num protowire.Number, queue string, msg *Message, o *requestOptions, timeout time.Duration) []byte {
	b, m := wire.Begin(b, num, len(msg.Payload)+len(queue)+32)
	b = wire.AppendText(b, 1, queue)
	if o.openPipe || timeout != 0 {
		b = appendPipe(b, 3, &o.pipe, timeout)
	}
	b = wire.AppendDuration(b, 4, o.delay)
	b = appendTime(b, 5, o.deliverAt)
	b = wire.AppendDuration(b, 6, o.expiry)
	b = wire.AppendNumber(b, 7, uint64(o.priority))
	b = wire.AppendText(b, 8, o.group)
	b = wire.AppendText(b, 9, o.key)
	b = wire.AppendFlag(b, 10, o.requireConsumer)
	if num == fieldOf(opCall) {
		b = wire.AppendNumber(b, 11, o.fromSequence)
	}
	return m.End(appendMessage(b, 2, msg))
}

// appendReplyPrefix writes what is the same in all replies of a stream.
func appendReplyPrefix(b []byte, r *replyRequest) []byte {
	b = appendToken(b, 1, r.to)
	b = wire.AppendFlag(b, 8, r.more)
	b = appendToken(b, 9, r.lease)
	return wire.AppendFlag(b, 10, r.ack)
}

// appendReply writes a ReplyRequest.
func appendReply(b []byte, num protowire.Number, r *replyRequest) []byte {
	size := 0
	if r.answer != nil {
		size = len(r.answer.Payload)
	}
	b, m := wire.Begin(b, num, size+2*handleSize+16)
	if r.prefix != nil {
		b = append(b, r.prefix...)
	} else {
		b = appendReplyPrefix(b, r)
	}
	if r.answer != nil {
		b = wire.AppendText(b, 5, r.answer.ContentType)
		b = appendHeaders(b, 6, r.answer.Headers)
		b = appendHandles(b, 7, r.answer.Handles)
	}
	b = wire.AppendText(b, 11, r.replyID)
	switch { // last, see appendMessage
	case r.err != nil:
		b = wire.AppendMessage(b, 3, toWire(r.err))
	case !r.splice.IsZero():
		b = appendHandle(b, 4, r.splice)
	case r.answer != nil:
		b = wire.AppendBytes(b, 2, r.answer.Payload)
	}
	return m.End(b)
}

// appendSettle writes a SettleRequest.
func appendSettle(b []byte, num protowire.Number, lease string, s *Settlement, replies []replyRequest) []byte {
	b, m := wire.Begin(b, num, handleSize+8)
	b = appendToken(b, 1, lease)
	b = wire.AppendNumber(b, 2, uint64(s.Action))
	b = wire.AppendDuration(b, 3, s.Delay)
	b = wire.AppendText(b, 4, cut(s.Reason, maxSettleReason))
	for i := range replies {
		b = appendReply(b, 5, &replies[i])
	}
	for i := range s.Messages {
		f := &s.Messages[i]
		b = appendEnqueue(b, 6, f.Queue, &f.Message, applyOptions(f.Options), 0)
	}
	b = wire.AppendFlag(b, 7, s.KeepHandles)
	return m.End(b)
}

// appendRequest writes any request through its generated code.
func appendRequest(b []byte, kind opKind, m vtMessage) []byte {
	return wire.AppendMessage(b, fieldOf(kind), m)
}
