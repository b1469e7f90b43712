package server

import (
	"slices"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/wire"
)

// An inFrame is a SessionRequest as it came, taken apart down to its operations; those are decoded one by one, see
// [requestDecoder]. Its bytes lie in a buffer of the codec's pool and are gone with the next frame.
type inFrame struct {
	buf      mem.Buffer
	tooLarge bool
	kept     bool // buf is no pool's, see codec.Unmarshal: what is large in it may be kept
	scan     scan // of what the generated code decodes of it
	parts    int  // operations, credits and detached operations seen

	hello           *queuepb.Hello
	operations      []inOperation
	credits         []inCredit
	detach          []uint64
	answeredBelow   uint64
	ping            uint64
	resultsReceived uint64
}

// An inOperation is an Operation, not decoded yet.
type inOperation struct {
	id   uint64
	kind kind   // of its request; kindNone if it has none that is known here
	raw  []byte // all of it
	// request is what of raw stands in the field of kind. It is nil where the operation has more than an id, a request,
	// credit and patience, or has one of them twice.
	request []byte
	credit  uint32
	patient bool
}

// An inCredit is a Credit.
type inCredit struct {
	operation, bytes uint64
	items            uint32
}

// free gives the buffer back. Nothing of the frame may be used any more. What a frame of usual size needs is kept for
// the next one.
func (f *inFrame) free() {
	if f.buf != nil {
		f.buf.Free()
	}
	clear(f.operations)
	*f = inFrame{operations: unlessLarge(f.operations), credits: unlessLarge(f.credits), detach: unlessLarge(f.detach)}
}

func unlessLarge[T any](all []T) []T {
	if cap(all) > 2*fullFrame {
		return nil
	}
	return all[:0]
}

// large is from how many bytes on a content makes up nearly all of the frame, so that the frame may be kept for it.
func (f *inFrame) large() int {
	if !f.kept {
		return 0
	}
	return nearlyAll(f.buf.Len())
}

// nearlyAll is so much of a frame that the rest does not matter: what counts for the memory of a message that keeps its
// frame is the message.
func nearlyAll(frame int) int { return frame - frame/64 }

// parse takes the frame apart. What it refuses ends the session, before much memory is taken for it.
func (f *inFrame) parse() error {
	b := f.buf.ReadOnlyData()
	f.scan = newScan(len(b), 0)
	var field wire.Field
	for len(b) > 0 {
		rest, err := field.Next(b)
		wrong := faultNone
		switch {
		case field.Num > 7:
			rest, wrong = f.scan.unknownField(b, 1)
		case err != nil:
			wrong = faultMalformed
		default:
			wrong = f.take(&field, rest)
		}
		if wrong != faultNone {
			return wrong.error()
		}
		b = rest
	}
	if len(f.operations) > maxWindow {
		return errWindowExceeded()
	}
	f.scan.maxHeap += scanHeapOperation * len(f.operations)
	return nil
}

// take takes one field; rest is what is behind it.
func (f *inFrame) take(field *wire.Field, rest []byte) fault {
	switch {
	case field.Num == 2 && field.Type == protowire.BytesType:
		if len(f.operations) <= maxWindow { // one more than allowed is enough to know
			f.operations = append(f.operations, inOperation{})
			if f.operations[len(f.operations)-1].parse(field.Bytes) != nil {
				return faultMalformed
			}
		}
		return f.part()
	case field.Num == 1 && field.Type == protowire.BytesType:
		return f.takeHello(field.Bytes)
	case field.Num == 3 && field.Type == protowire.BytesType:
		if f.scan.elements++; f.scan.elements > f.scan.maxElements {
			return faultElements
		}
		f.credits = append(roomFor(f.credits, rest, 3), inCredit{})
		if wrong := f.credits[len(f.credits)-1].parse(field.Bytes, &f.scan); wrong != faultNone {
			return wrong
		}
		return f.part()
	case field.Num == 4 && field.Type == protowire.BytesType:
		return f.takeDetach(field.Bytes)
	case field.Num <= 3 || field.Type != protowire.VarintType:
		return faultMalformed
	case field.Num == 4:
		f.detach = append(roomFor(f.detach, rest, 4), field.Number)
		return f.part()
	case field.Num == 5:
		f.answeredBelow = field.Number
	case field.Num == 6:
		f.ping = field.Number
	case field.Num == 7:
		f.resultsReceived = field.Number
	}
	return faultNone
}

// part counts what a frame may have many of.
func (f *inFrame) part() fault {
	if f.parts++; f.parts > maxElements {
		return faultElements
	}
	return faultNone
}

func (f *inFrame) takeHello(b []byte) fault {
	if wrong := f.scan.message(b, helloShape, 2); wrong != faultNone {
		return wrong
	}
	if f.hello == nil {
		f.hello = &queuepb.Hello{}
	}
	if f.hello.UnmarshalVT(b) != nil {
		return faultMalformed
	}
	return faultNone
}

// takeDetach takes packed numbers.
func (f *inFrame) takeDetach(packed []byte) fault {
	n := packedNumbers(packed, protowire.VarintType)
	if f.parts += n; f.parts > maxElements {
		return faultElements
	}
	f.detach = slices.Grow(f.detach, n)
	for len(packed) > 0 {
		id, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return faultMalformed
		}
		f.detach, packed = append(f.detach, id), packed[n:]
	}
	return faultNone
}

// roomFor makes room in a list that gets long, for as many fields of its number as follow: growing step by step it would
// take several times the memory.
func roomFor[T any](list []T, rest []byte, num protowire.Number) []T {
	if len(list) < cap(list) || len(list) < fullFrame {
		return list
	}
	n := 1
	var field wire.Field
	for err := error(nil); len(rest) > 0 && n < maxElements; {
		if rest, err = field.Next(rest); err != nil {
			break
		}
		if field.Num == num {
			n++
		}
	}
	return append(make([]T, 0, len(list)+n), list...)
}

// parse decodes a credit.
func (c *inCredit) parse(b []byte, s *scan) fault {
	var field wire.Field
	for len(b) > 0 {
		rest, err := field.Next(b)
		wrong := faultNone
		switch {
		case field.Num > 3:
			rest, wrong = s.unknownField(b, 2)
		case err != nil || field.Type != protowire.VarintType:
			wrong = faultMalformed
		case field.Num == 1:
			c.operation = field.Number
		case field.Num == 2:
			c.items = uint32(field.Number)
		case field.Num == 3:
			c.bytes = field.Number
		}
		if wrong != faultNone {
			return wrong
		}
		b = rest
	}
	return faultNone
}

// parse reads what has to be known of an operation before it is decoded.
func (o *inOperation) parse(b []byte) error {
	o.raw = b
	plain := true
	var field wire.Field
	var err error
	for len(b) > 0 {
		if b, err = field.Next(b); err != nil {
			if field.Num > 17 {
				plain = false
				break // the scan says what is wrong with it
			}
			return err
		}
		switch {
		case field.Num == 1 && field.Type == protowire.VarintType:
			o.id = field.Number
		case field.Num >= 2 && field.Num <= 14 && field.Type == protowire.BytesType:
			plain = plain && o.kind == kindNone
			o.kind, o.request = kind(field.Num), field.Bytes
		case field.Num == 15 && field.Type == protowire.VarintType:
			o.credit = uint32(field.Number)
		case field.Num == 17 && field.Type == protowire.VarintType:
			o.patient = field.Number != 0
		default:
			plain = false
		}
	}
	if !plain {
		o.request = nil
	}
	return nil
}

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
