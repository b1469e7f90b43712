package server

import (
	"slices"
	"unsafe"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/wire"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"
)

// A requestDecoder decodes operations. Those of the four frequent kinds that have nothing but the frequent fields are
// decoded by hand into messages that are used again, which point into the frame's buffer: what checks and converts them
// keeps nothing of them. The generated code would allocate six messages for a call and copy its strings. All others go
// that way, scanned and on a copy of their bytes. TestDecode holds one against the other.
type requestDecoder struct {
	scan scan // of the frame
	// large is from how many bytes on the content of a request may be kept as it is in the frame; 0: never.
	large int
	// content is that of the request that was decoded last, as it came; see caller.contentBody. Mostly nil.
	content []byte

	enqueue queuepb.Operation_Enqueue
	call    queuepb.Operation_Call
	reply   queuepb.Operation_Reply
	settle  queuepb.Operation_Settle
	batch   plainBatch

	enqueueRequest queuepb.EnqueueRequest
	callRequest    queuepb.CallRequest
	replyRequest   queuepb.ReplyRequest
	settleRequest  queuepb.SettleRequest
	message        queuepb.Message
	pipe           queuepb.PipeOptions
	timeout        durationpb.Duration
	payload        queuepb.ReplyRequest_Payload
	handle, lease  queuepb.Handle
}

// forget lets go of what is large.
func (d *requestDecoder) forget() {
	d.content, d.payload.Payload, d.message.Payload = nil, nil, nil
}

// decode decodes an operation. What it returns is valid until it is called again.
func (d *requestDecoder) decode(o *inOperation) (request any, timeout *durationpb.Duration, err error) {
	d.content = nil
	if o.request != nil {
		switch {
		case o.kind == kindCall && d.decodeCall(o.request):
			return &d.call, nil, nil
		case o.kind == kindReply && d.decodeReply(o.request):
			return &d.reply, nil, nil
		case o.kind == kindEnqueue && d.decodeEnqueue(o.request):
			return &d.enqueue, nil, nil
		case o.kind == kindSettle && d.decodeSettle(o.request):
			return &d.settle, nil, nil
		case o.kind == kindEnqueueBatch && d.decodeBatch(o.request):
			return &d.batch, nil, nil
		}
		d.content = nil // it may have been set before there was something else
	}
	if wrong := d.scan.message(o.raw, operationShape, 2); wrong != faultNone {
		return nil, nil, wrong.error()
	}
	var whole queuepb.Operation
	if err := whole.UnmarshalVTUnsafe(slices.Clone(o.raw)); err != nil {
		return nil, nil, errFrameMalformed()
	}
	return whole.Request, whole.Timeout, nil
}

// decodeCall decodes a CallRequest with a queue, a message and a pipe.
func (d *requestDecoder) decodeCall(b []byte) (ok bool) {
	r := &d.callRequest
	r.Queue, r.Message, r.Pipe, ok = d.enqueued(b)
	d.call.Call = r
	return ok
}

func (d *requestDecoder) decodeEnqueue(b []byte) (ok bool) {
	r := &d.enqueueRequest
	r.Queue, r.Message, r.Pipe, ok = d.enqueued(b)
	d.enqueue.Enqueue = r
	return ok
}

// enqueued decodes the first three fields of an EnqueueRequest or CallRequest. ok is false if there are others, or one
// twice.
func (d *requestDecoder) enqueued(b []byte) (queue string, message *queuepb.Message, pipe *queuepb.PipeOptions, ok bool) {
	var field wire.Field
	var err error
	for len(b) > 0 {
		if b, err = field.Next(b); err != nil || field.Type != protowire.BytesType {
			return "", nil, nil, false
		}
		switch {
		case field.Num == 1:
			queue = textOf(field.Bytes)
		case field.Num == 2 && message == nil:
			if message = &d.message; !d.decodeMessage(field.Bytes) {
				return "", nil, nil, false
			}
		case field.Num == 3 && pipe == nil:
			if pipe = &d.pipe; !d.decodePipe(field.Bytes) {
				return "", nil, nil, false
			}
		default:
			return "", nil, nil, false
		}
	}
	return queue, message, pipe, true
}

// A plainBatch is an EnqueueBatchRequest of items that have nothing but the frequent fields. It is decoded item by item.
type plainBatch struct {
	raw   []byte
	items int
}

// decodeBatch finds out whether a batch is plain.
func (d *requestDecoder) decodeBatch(b []byte) bool {
	d.batch = plainBatch{raw: b}
	var field wire.Field
	var err error
	for len(b) > 0 {
		if b, err = field.Next(b); err != nil || field.Num != 1 || field.Type != protowire.BytesType {
			return false
		}
		if _, _, _, ok := d.enqueued(field.Bytes); !ok {
			return false
		}
		if d.batch.items++; d.batch.items > maxBatchItems {
			return false // the scan has more to say about it
		}
	}
	d.content = nil // that of an item is small
	d.scan.elements += d.batch.items
	return d.scan.elements <= d.scan.maxElements
}

// nextItem decodes the first item of a plain batch, or of what is left of it.
func (d *requestDecoder) nextItem(b []byte) (item *queuepb.EnqueueRequest, rest []byte) {
	var field wire.Field
	rest, _ = field.Next(b) // decodeBatch has seen it
	item = &d.enqueueRequest
	item.Queue, item.Message, item.Pipe, _ = d.enqueued(field.Bytes)
	return item, rest
}

// decodeMessage decodes a message with a payload, a content type and a reply_to.
func (d *requestDecoder) decodeMessage(b []byte) bool {
	m := &d.message
	m.Payload, m.ContentType, m.ReplyTo = nil, "", nil
	if d.large > 0 && len(b) >= d.large {
		d.content = b
	}
	var field wire.Field
	var err error
	for len(b) > 0 {
		if b, err = field.Next(b); err != nil || field.Type != protowire.BytesType {
			return false
		}
		switch {
		case field.Num == 1:
			m.Payload = field.Bytes
		case field.Num == 2:
			m.ContentType = textOf(field.Bytes)
		case field.Num == 4 && m.ReplyTo == nil && decodeHandle(field.Bytes, &d.handle):
			m.ReplyTo = &d.handle
		default:
			return false
		}
	}
	return true
}

// decodePipe decodes options that have a timeout only.
func (d *requestDecoder) decodePipe(b []byte) bool {
	d.pipe.Timeout = nil
	if len(b) == 0 {
		return true
	}
	var field wire.Field
	rest, err := field.Next(b)
	if err != nil || len(rest) > 0 || field.Num != 1 || field.Type != protowire.BytesType {
		return false
	}
	d.timeout.Seconds, d.timeout.Nanos = 0, 0
	for b = field.Bytes; len(b) > 0; {
		if b, err = field.Next(b); err != nil || field.Type != protowire.VarintType {
			return false
		}
		switch field.Num {
		case 1:
			d.timeout.Seconds = int64(field.Number)
		case 2:
			d.timeout.Nanos = int32(field.Number)
		default:
			return false
		}
	}
	d.pipe.Timeout = &d.timeout
	return true
}

// decodeReply decodes a ReplyRequest with a handle, a payload, more, a lease and ack.
func (d *requestDecoder) decodeReply(b []byte) bool {
	r := &d.replyRequest
	r.Handle, r.Body, r.More, r.Lease, r.Ack, r.ContentType = nil, nil, false, nil, false, ""
	var field wire.Field
	var err error
	for len(b) > 0 {
		before := b
		if b, err = field.Next(b); err != nil {
			return false
		}
		number := field.Type == protowire.VarintType
		if !number && field.Type != protowire.BytesType {
			return false
		}
		switch {
		case field.Num == 1 && !number && r.Handle == nil && decodeHandle(field.Bytes, &d.handle):
			r.Handle = &d.handle
		case field.Num == 2 && !number && r.Body == nil:
			d.payload.Payload = field.Bytes
			r.Body = &d.payload
			if d.large > 0 && len(field.Bytes) >= d.large {
				n := len(before) - len(b)
				d.content = before[:n:n] // the field has the same number in Reply
			}
		case field.Num == 5 && !number:
			r.ContentType = textOf(field.Bytes)
		case field.Num == 8 && number:
			r.More = field.Number != 0
		case field.Num == 9 && !number && r.Lease == nil && decodeHandle(field.Bytes, &d.lease):
			r.Lease = &d.lease
		case field.Num == 10 && number:
			r.Ack = field.Number != 0
		default:
			return false
		}
	}
	d.reply.Reply = r
	return true
}

// decodeSettle decodes a SettleRequest with a lease and an action.
func (d *requestDecoder) decodeSettle(b []byte) bool {
	r := &d.settleRequest
	r.Lease, r.Action = nil, 0
	var field wire.Field
	var err error
	for len(b) > 0 {
		if b, err = field.Next(b); err != nil {
			return false
		}
		switch {
		case field.Num == 1 && field.Type == protowire.BytesType && r.Lease == nil && decodeHandle(field.Bytes, &d.lease):
			r.Lease = &d.lease
		case field.Num == 2 && field.Type == protowire.VarintType:
			r.Action = queuepb.SettleAction(field.Number)
		default:
			return false
		}
	}
	d.settle.Settle = r
	return true
}

// decodeHandle decodes a Handle that has a token and nothing else.
func decodeHandle(b []byte, h *queuepb.Handle) bool {
	var field wire.Field
	if len(b) == 0 {
		return false
	}
	rest, err := field.Next(b)
	h.Token = textOf(field.Bytes)
	return err == nil && len(rest) == 0 && field.Num == 1 && field.Type == protowire.BytesType
}

// textOf is bytes of the frame's buffer as a string.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
