package client

import (
	"time"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/handles"
)

// Deliveries and replies are decoded by hand, as requests are encoded: their bytes are copied once out of the frame's
// buffer, and everything decoded shares that copy. decode_test.go holds every field against the generated code.

// textOf makes a string of bytes that nobody will change: those of a copy made for one delivery or reply.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// decodeDelivery takes over the bytes.
func decodeDelivery(b []byte, d *Delivery) (err error) {
	for len(b) > 0 {
		var num protowire.Number
		var number uint64
		var bytes []byte
		if num, number, bytes, b, err = field(b); err != nil {
			return err
		}
		switch num {
		case 1:
			d.MessageID = textOf(bytes)
		case 2:
			d.Queue = textOf(bytes)
		case 3:
			d.lease = tokenOf(bytes)
		case 4:
			d.LeaseExpiresAt = timeOf(bytes)
		case 5:
			d.Attempt = uint32(number)
		case 6:
			d.Failures = uint32(number)
		case 7:
			err = decodeMessage(bytes, d)
		case 8:
			d.EnqueuedAt = timeOf(bytes)
		case 9:
			d.Deadline = timeOf(bytes)
		case 10:
			d.EndedHandles = append(d.EndedHandles, textOf(bytes))
		case 11:
			d.Priority = int(number)
		case 12:
			d.Group = textOf(bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func decodeMessage(b []byte, d *Delivery) (err error) {
	for len(b) > 0 {
		var num protowire.Number
		var bytes []byte
		if num, _, bytes, b, err = field(b); err != nil {
			return err
		}
		switch num {
		case 1:
			d.Payload = bytes
		case 2:
			d.ContentType = textOf(bytes)
		case 3:
			d.Headers = addHeader(d.Headers, bytes)
		case 4:
			d.replyTo = tokenOf(bytes)
		case 5:
			d.Handles = addHandle(d.Handles, bytes)
		}
	}
	return nil
}

// decodeReply takes over the bytes.
func decodeReply(b []byte) (r Reply, err error) {
	for len(b) > 0 {
		var num protowire.Number
		var number uint64
		var bytes []byte
		if num, number, bytes, b, err = field(b); err != nil {
			return Reply{}, err
		}
		switch num {
		case 1:
			r.Sequence = number
		case 2:
			r.Payload = bytes
		case 3:
			r.ContentType = textOf(bytes)
		case 4:
			r.Headers = addHeader(r.Headers, bytes)
		case 5:
			r.Handles = addHandle(r.Handles, bytes)
		case 6:
			r.SourceMessageID = textOf(bytes)
		case 7:
			r.Attempt = uint32(number)
		case 8:
			r.EndedHandles = append(r.EndedHandles, textOf(bytes))
		}
	}
	return r, nil
}

// entry takes a map's entry apart.
func entry(b []byte) (key string, value []byte) {
	for len(b) > 0 {
		num, _, bytes, rest, err := field(b)
		if err != nil {
			return "", nil
		}
		switch num {
		case 1:
			key = textOf(bytes)
		case 2:
			value = bytes
		}
		b = rest
	}
	return key, value
}

func addHeader(headers map[string]string, b []byte) map[string]string {
	key, value := entry(b)
	if headers == nil {
		headers = make(map[string]string)
	}
	headers[key] = textOf(value)
	return headers
}

// addHandle leaves out a handle of a form that this version does not know: the server, which checked it, is newer.
func addHandle(named map[string]handles.Handle, b []byte) map[string]handles.Handle {
	key, value := entry(b)
	h, err := handles.Parse(tokenOf(value))
	if err != nil {
		return named
	}
	if named == nil {
		named = make(map[string]handles.Handle)
	}
	named[key] = h
	return named
}

// tokenOf is the token of an encoded Handle.
func tokenOf(b []byte) string {
	for len(b) > 0 {
		num, _, bytes, rest, err := field(b)
		if err != nil {
			return ""
		}
		if num == 1 {
			return textOf(bytes)
		}
		b = rest
	}
	return ""
}

// timeOf decodes a Timestamp, in UTC.
func timeOf(b []byte) time.Time {
	var seconds, nanos int64
	for len(b) > 0 {
		num, number, _, rest, err := field(b)
		if err != nil {
			return time.Time{}
		}
		switch num {
		case 1:
			seconds = int64(number)
		case 2:
			nanos = int64(number)
		}
		b = rest
	}
	return time.Unix(seconds, nanos).UTC()
}
