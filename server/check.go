package server

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// The rules of form, each once. They return nil, or what is wrong and what to do. Rules of state are the broker's.

// charset is a set of ASCII characters, for names.
type charset [128]bool

func charsetOf(s string) (c charset) {
	for i := range len(s) {
		c[s[i]] = true
	}
	return c
}

// all reports whether s has no other characters.
func (c *charset) all(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || !c[s[i]] {
			return false
		}
	}
	return true
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

var (
	queueChars      = charsetOf(lower + digits + "._-")
	headerChars     = charsetOf(lower + digits + "-")
	handleNameChars = charsetOf(lower + digits + "_.-")
	consumerChars   = charsetOf(lower + upper + digits + "._-")
	reasonChars     = charsetOf(upper + digits + "_")
)

func checkQueue(name, field string) *broker.Error {
	if name != "" && len(name) <= maxQueueName && queueChars.all(name) &&
		name[0] != '.' && name[len(name)-1] != '.' && !strings.Contains(name, "..") {
		return nil
	}
	return refuse(reasonQueueNameInvalid, field, "queue name "+show(name)+
		` is not valid: use 1 to 128 characters of a-z, 0-9, ".", "_" and "-", with no leading, trailing or double dot`)
}

func (l limits) checkPayload(payload []byte, field string) *broker.Error {
	if len(payload) <= l.payload {
		return nil
	}
	return refuse(reasonPayloadTooLarge, field, fmt.Sprintf(
		"%d bytes, the limit is %d: send less, or store it elsewhere and send where it is", len(payload), l.payload))
}

// checkHeaders checks the content type too: it is a header in all but name.
func checkHeaders(contentType string, headers map[string]string, typeField, field string) *broker.Error {
	if len(contentType) > maxContentType || !printable(contentType) {
		return refuse(reasonHeaderInvalid, typeField, "use at most 128 bytes of valid UTF-8 without control characters")
	}
	if len(headers) == 0 {
		return nil
	}
	if len(headers) > maxHeaders {
		return refuse(reasonHeaderInvalid, field, fmt.Sprintf("%d headers: send at most %d", len(headers), maxHeaders))
	}
	size := 0
	for key, value := range headers {
		size += len(key) + len(value)
		if key == "" || !headerChars.all(key) {
			return refuse(reasonHeaderInvalid, mapField(field, key), `write keys with a-z, 0-9 and "-" only`)
		}
		if strings.HasPrefix(key, "replyq-") || strings.HasPrefix(key, "grpc-") {
			return refuse(reasonHeaderReserved, mapField(field, key),
				"the prefixes replyq- and grpc- are reserved: rename the header")
		}
		if !printable(value) {
			return refuse(reasonHeaderInvalid, mapField(field, key),
				"write values as valid UTF-8 without control characters; encode anything else")
		}
	}
	if size > maxHeaderBytes {
		return refuse(reasonHeaderInvalid, field, fmt.Sprintf(
			"%d bytes, the limit is %d: move some of it into the payload", size, maxHeaderBytes))
	}
	return nil
}

// printable reports whether s is valid UTF-8 without control characters. The generated decoder does not check strings;
// what is stored unchecked would fail in the consumer, whose decoder may.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
		}
	}
	return true
}

// mapField is the path of one entry of a map field: headers["x-id"].
func mapField(field, key string) string { return field + "[" + show(key) + "]" }

// checkText checks a string that is kept or compared but not interpreted.
func checkText(s string, limit int, reason broker.Reason, field string) *broker.Error {
	if len(s) <= limit && utf8.ValidString(s) {
		return nil
	}
	return refuse(reason, field, fmt.Sprintf("use at most %d bytes of valid UTF-8", limit))
}

// trimText is for sentences that are only shown to people: too long or damaged ones are mended, not refused.
func trimText(s string, limit int) string {
	return cutText(strings.ToValidUTF8(s, "\uFFFD"), limit)
}

func checkConsumerID(id, field string) *broker.Error {
	if len(id) <= maxConsumerID && consumerChars.all(id) {
		return nil
	}
	return refuse(reasonConsumerIDInvalid, field, "consumer id "+show(id)+
		` is not valid: use at most 64 characters of A-Z, a-z, 0-9, ".", "_" and "-"`)
}

// duration converts; unset gives 0.
func duration(d *durationpb.Duration, field string) (time.Duration, *broker.Error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil {
		return 0, refuse(reasonDurationInvalid, field,
			"not a valid duration: nanos must be under 10^9 and have the sign of seconds")
	}
	return d.AsDuration(), nil
}

// timestamp converts; unset gives 0.
func timestamp(t *timestamppb.Timestamp, field string) (broker.Time, *broker.Error) {
	if t == nil {
		return 0, nil
	}
	// UnixNano is defined for 1678 to 2262; beyond, "held back until" is as good as wrong.
	if t.CheckValid() != nil || t.Seconds < 0 || t.Seconds > 9_000_000_000 {
		return 0, refuse(reasonTimestampInvalid, field,
			"not a valid time: nanos must be 0 to 999999999, and the year 1970 to 2255")
	}
	return broker.TimeOf(t.AsTime()), nil
}

// explicit keeps an explicit zero apart from an unset field, which in the broker's words is zero: it becomes the
// shortest duration there is.
func explicit(d time.Duration) time.Duration { return max(d, 1) }

func leaseTime(d *durationpb.Duration, field string) (time.Duration, *broker.Error) {
	if d == nil {
		return 0, nil
	}
	t, err := duration(d, field)
	if err != nil {
		return 0, err
	}
	if t < minLeaseTime || t > maxLeaseTime {
		return 0, refuse(reasonLeaseInvalid, field, "use 1 s to 12 h, or leave it unset for the queue's")
	}
	return t, nil
}

// pipeOptions converts the options of a pipe, all but its parent; nil gives all defaults. timeout is used where none is set.
func (l limits) pipeOptions(o *queuepb.PipeOptions, timeout time.Duration) (broker.PipeOptions, *broker.Error) {
	out := broker.PipeOptions{Timeout: timeout}
	if o == nil {
		return out, nil
	}
	if o.Timeout != nil {
		t, err := duration(o.Timeout, "pipe.timeout")
		if err != nil {
			return out, err
		}
		if t <= 0 || t > l.pipeTimeout {
			return out, refuse(reasonPipeOptionsInvalid, "pipe.timeout", fmt.Sprintf(
				"use more than 0 and at most %s, or leave it unset for 1 h", l.pipeTimeout))
		}
		out.Timeout = t
	}
	if o.DisconnectGrace != nil {
		t, err := duration(o.DisconnectGrace, "pipe.disconnect_grace")
		if err != nil {
			return out, err
		}
		if t < 0 || t > maxDisconnectGrace {
			return out, refuse(reasonPipeOptionsInvalid, "pipe.disconnect_grace", "use 0 to 1 h, or leave it unset for 10 s")
		}
		out.DisconnectGrace = explicit(t)
	}
	if o.Retain != nil {
		t, err := duration(o.Retain, "pipe.retain")
		if err != nil {
			return out, err
		}
		if t < 0 || t > maxRetain {
			return out, refuse(reasonPipeOptionsInvalid, "pipe.retain", "use 0 to 24 h, or leave it unset for 60 s")
		}
		out.Retain = explicit(t)
	}
	switch o.IfAbandoned {
	case queuepb.IfAbandoned_IF_ABANDONED_UNSPECIFIED, queuepb.IfAbandoned_IF_ABANDONED_WITHDRAW:
	case queuepb.IfAbandoned_IF_ABANDONED_KEEP:
		out.KeepIfAbandoned = true
	default:
		return out, unknownEnum("pipe.if_abandoned")
	}
	if o.CapacityReplies > maxCapacityReplies {
		return out, refuse(reasonPipeOptionsInvalid, "pipe.capacity_replies", "use at most 65536, or 0 for 1024")
	}
	if o.CapacityBytes > maxCapacityBytes {
		return out, refuse(reasonPipeOptionsInvalid, "pipe.capacity_bytes", "use at most 64 MiB, or 0 for 4 MiB")
	}
	out.CapacityReplies, out.CapacityBytes = o.CapacityReplies, o.CapacityBytes
	return out, nil
}

func unknownEnum(field string) *broker.Error {
	return refuse(reasonEnumUnknown, field, "the server does not know this value: use one that its queue.proto lists")
}
