package client

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/handles"
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
	fieldOperationTimeout = 16
)

// mark remembers where a nested message began and how much room its length has.
type mark struct{ at, room int }

// begin appends the tag of a nested message and leaves room for its length, guessed from its size; a wrong guess costs
// a move of a few bytes.
func begin(b []byte, num protowire.Number, guess int) ([]byte, mark) {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	m := mark{at: len(b), room: protowire.SizeVarint(uint64(guess))}
	for range m.room {
		b = append(b, 0)
	}
	return b, m
}

// end writes the length of the message that m began.
func (m mark) end(b []byte) []byte {
	from := m.at + m.room
	size := len(b) - from
	need := protowire.SizeVarint(uint64(size))
	if need != m.room {
		for range need - m.room {
			b = append(b, 0)
		}
		copy(b[m.at+need:], b[from:from+size])
		b = b[:m.at+need+size]
	}
	protowire.AppendVarint(b[m.at:m.at], uint64(size))
	return b
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendFlag(b []byte, num protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendNumber(b, num, 1)
}

// appendDuration writes nothing for 0: unset is the default everywhere.
func appendDuration(b []byte, num protowire.Number, d time.Duration) []byte {
	if d == 0 {
		return b
	}
	b, m := begin(b, num, 16)
	b = appendNumber(b, 1, uint64(d/time.Second))
	b = appendNumber(b, 2, uint64(d%time.Second))
	return m.end(b)
}

func appendTime(b []byte, num protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b, m := begin(b, num, 16)
	b = appendNumber(b, 1, uint64(t.Unix()))
	b = appendNumber(b, 2, uint64(t.Nanosecond()))
	return m.end(b)
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
	b, m := begin(b, num, handleSize)
	return m.end(appendText(b, 1, token))
}

func appendHeaders(b []byte, num protowire.Number, headers map[string]string) []byte {
	for k, v := range headers {
		var m mark
		b, m = begin(b, num, len(k)+len(v)+6)
		b = appendText(b, 1, k)
		b = m.end(appendText(b, 2, v))
	}
	return b
}

func appendHandles(b []byte, num protowire.Number, named map[string]handles.Handle) []byte {
	for k, h := range named {
		var m mark
		b, m = begin(b, num, len(k)+handleSize+4)
		b = appendText(b, 1, k)
		b = m.end(appendHandle(b, 2, h))
	}
	return b
}

func appendMessage(b []byte, num protowire.Number, msg *Message) []byte {
	b, m := begin(b, num, len(msg.Payload)+8)
	if len(msg.Payload) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), msg.Payload)
	}
	b = appendText(b, 2, msg.ContentType)
	b = appendHeaders(b, 3, msg.Headers)
	b = appendHandle(b, 4, msg.ReplyTo)
	b = appendHandles(b, 5, msg.Handles)
	return m.end(b)
}

func appendPipe(b []byte, num protowire.Number, p *PipeOptions, timeout time.Duration) []byte {
	b, m := begin(b, num, 16)
	if p.Timeout != 0 {
		timeout = p.Timeout
	}
	b = appendDuration(b, 1, timeout)
	b = appendHandle(b, 2, p.Parent)
	b = appendDuration(b, 3, p.DisconnectGrace)
	if p.KeepIfAbandoned {
		b = appendNumber(b, 4, 2)
	}
	b = appendNumber(b, 5, uint64(p.CapacityReplies))
	b = appendNumber(b, 6, p.CapacityBytes)
	b = appendDuration(b, 7, p.Retain)
	return m.end(b)
}

// appendEnqueue writes an EnqueueRequest, or with the same numbers a CallRequest.
func appendEnqueue(b []byte, num protowire.Number, queue string, msg *Message, o *requestOptions, timeout time.Duration) []byte {
	b, m := begin(b, num, len(msg.Payload)+len(queue)+32)
	b = appendText(b, 1, queue)
	b = appendMessage(b, 2, msg)
	if o.openPipe || timeout != 0 {
		b = appendPipe(b, 3, &o.pipe, timeout)
	}
	b = appendDuration(b, 4, o.delay)
	b = appendTime(b, 5, o.deliverAt)
	b = appendDuration(b, 6, o.expiry)
	b = appendNumber(b, 7, uint64(o.priority))
	b = appendText(b, 8, o.group)
	b = appendText(b, 9, o.key)
	b = appendFlag(b, 10, o.requireConsumer)
	if num == fieldOf(opCall) {
		b = appendNumber(b, 11, o.fromSequence)
	}
	return m.end(b)
}

// appendReply writes a ReplyRequest.
func appendReply(b []byte, num protowire.Number, r *replyRequest) []byte {
	size := 0
	if r.answer != nil {
		size = len(r.answer.Payload)
	}
	b, m := begin(b, num, size+2*handleSize+16)
	b = appendToken(b, 1, r.to)
	switch {
	case r.err != nil:
		b = appendGenerated(b, 3, toWire(r.err))
	case !r.splice.IsZero():
		b = appendHandle(b, 4, r.splice)
	case r.answer != nil:
		b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), r.answer.Payload)
	}
	if r.answer != nil {
		b = appendText(b, 5, r.answer.ContentType)
		b = appendHeaders(b, 6, r.answer.Headers)
		b = appendHandles(b, 7, r.answer.Handles)
	}
	b = appendFlag(b, 8, r.more)
	b = appendToken(b, 9, r.lease)
	b = appendFlag(b, 10, r.ack)
	b = appendText(b, 11, r.replyID)
	return m.end(b)
}

// appendSettle writes a SettleRequest.
func appendSettle(b []byte, num protowire.Number, lease string, s *Settlement, replies []replyRequest) []byte {
	b, m := begin(b, num, handleSize+8)
	b = appendToken(b, 1, lease)
	b = appendNumber(b, 2, uint64(s.Action))
	b = appendDuration(b, 3, s.Delay)
	b = appendText(b, 4, cut(s.Reason, maxSettleReason))
	for i := range replies {
		b = appendReply(b, 5, &replies[i])
	}
	for i := range s.Messages {
		f := &s.Messages[i]
		b = appendEnqueue(b, 6, f.Queue, &f.Message, applyOptions(f.Options), 0)
	}
	b = appendFlag(b, 7, s.KeepHandles)
	return m.end(b)
}

// appendRequest writes any request through its generated code.
func appendRequest(b []byte, kind opKind, m vtMessage) []byte {
	return appendGenerated(b, fieldOf(kind), m)
}

func appendGenerated(b []byte, num protowire.Number, m vtMessage) []byte {
	size := m.SizeVT()
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(size))
	at := len(b)
	for range size {
		b = append(b, 0)
	}
	if _, err := m.MarshalToSizedBufferVT(b[at:]); err != nil {
		return b[:at] // unreachable: the buffer has the size that the message named
	}
	return b
}
