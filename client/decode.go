package client

import (
	"time"
	"unsafe"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/wire"
)

// Deliveries and replies are decoded by hand, as requests are encoded: their bytes are copied once out of the frame's
// buffer, and everything decoded shares that copy. decode_test.go holds every field against the generated code.

// textOf makes a string of bytes that nobody will change: those of a copy made for one delivery or reply.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// decodeDelivery takes over the bytes.
func decodeDelivery(b []byte, d *Delivery) (err error) {
	var f wire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return err
		}
		switch f.Num {
		case 1:
			d.MessageID = textOf(f.Bytes)
		case 2:
			d.Queue = textOf(f.Bytes)
		case 3:
			d.lease = tokenOf(f.Bytes)
		case 4:
			d.LeaseExpiresAt = timeOf(f.Bytes)
		case 5:
			d.Attempt = uint32(f.Number)
		case 6:
			d.Failures = uint32(f.Number)
		case 7:
			err = decodeMessage(f.Bytes, d)
		case 8:
			d.EnqueuedAt = timeOf(f.Bytes)
		case 9:
			d.Deadline = timeOf(f.Bytes)
		case 10:
			d.EndedHandles = append(d.EndedHandles, textOf(f.Bytes))
		case 11:
			d.Priority = int(f.Number)
		case 12:
			d.Group = textOf(f.Bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func decodeMessage(b []byte, d *Delivery) (err error) {
	var f wire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return err
		}
		switch f.Num {
		case 1:
			d.Payload = f.Bytes
		case 2:
			d.ContentType = textOf(f.Bytes)
		case 3:
			d.Headers = addHeader(d.Headers, f.Bytes)
		case 4:
			d.replyTo = tokenOf(f.Bytes)
		case 5:
			d.Handles = addHandle(d.Handles, f.Bytes)
		}
	}
	return nil
}

// decodeReply takes over the bytes.
func decodeReply(b []byte) (r Reply, err error) {
	var f wire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return Reply{}, err
		}
		switch f.Num {
		case 1:
			r.Sequence = f.Number
		case 2:
			r.Payload = f.Bytes
		case 3:
			r.ContentType = textOf(f.Bytes)
		case 4:
			r.Headers = addHeader(r.Headers, f.Bytes)
		case 5:
			r.Handles = addHandle(r.Handles, f.Bytes)
		case 6:
			r.SourceMessageID = textOf(f.Bytes)
		case 7:
			r.Attempt = uint32(f.Number)
		case 8:
			r.EndedHandles = append(r.EndedHandles, textOf(f.Bytes))
		}
	}
	return r, nil
}

// entry takes a map's entry apart.
func entry(b []byte) (key string, value []byte) {
	var f wire.Field
	for len(b) > 0 {
		rest, err := f.Next(b)
		if err != nil {
			return "", nil
		}
		switch f.Num {
		case 1:
			key = textOf(f.Bytes)
		case 2:
			value = f.Bytes
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
	var f wire.Field
	for len(b) > 0 {
		rest, err := f.Next(b)
		if err != nil {
			return ""
		}
		if f.Num == 1 {
			return textOf(f.Bytes)
		}
		b = rest
	}
	return ""
}

// timeOf decodes a Timestamp, in UTC.
func timeOf(b []byte) time.Time {
	var f wire.Field
	var seconds, nanos int64
	for len(b) > 0 {
		rest, err := f.Next(b)
		if err != nil {
			return time.Time{}
		}
		switch f.Num {
		case 1:
			seconds = int64(f.Number)
		case 2:
			nanos = int64(f.Number)
		}
		b = rest
	}
	return time.Unix(seconds, nanos).UTC()
}
