package server

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/buffers"
	"github.com/replyq/replyq/internal/wire"
)

// An outFrame is a SessionResponse on its way to the client, encoded while it is put together: a delivery alone would be
// eleven generated messages, and at a hundred thousand a second the collector would see little else. The six frequent
// kinds of result are written by hand; the others, and all of the plain face, go through the generated code of
// [frame]. TestResults holds one against the other.
//
// A message or reply is not decoded on its way out. Its body, as the broker kept it, is the encoding of some fields of
// queuepb.Message or queuepb.Reply, and is written beside the others; the receiver's decoder takes both together.
type outFrame struct {
	keys *handles.KeyRing
	pool *buffers.Pool

	b       []byte
	buf     *[]byte           // what b began in; nil until there is something in the frame
	outside []buffers.Outside // by their place
	results int
	expect  int // how long the next frame may become, by those before it
}

// The fields of SessionRequest and SessionResponse.
const (
	fieldOperations = 2
	fieldResults    = 2
	fieldGoingAway  = 3
	fieldPong       = 4
	fieldDone       = 16 // of Result
)

// resultRoom is how long a result mostly is at most, without its body, and receiptRoom how long a receipt is.
const (
	resultRoom  = 400
	receiptRoom = 160
)

// room makes room for n bytes. What needs more than was said grows outside of the pool.
func (f *outFrame) room(n int) {
	switch {
	case f.buf == nil:
		f.buf = f.pool.Get(max(f.expect, n))
		f.b = (*f.buf)[:0]
	case cap(f.b)-len(f.b) < n:
		larger := f.pool.Get(max(2*cap(f.b), len(f.b)+n))
		b := append((*larger)[:0], f.b...)
		f.pool.Put(f.take())
		f.buf, f.b = larger, b
	}
}

// take gives the frame's bytes away, in a buffer for the pool.
func (f *outFrame) take() *[]byte {
	buf := f.buf
	if cap(f.b) != cap(*buf) { // outgrown
		f.pool.Put(buf)
		buf = new([]byte)
	}
	*buf = f.b
	f.b, f.buf = nil, nil
	return buf
}

// encoded is the frame, whose buffers belong to gRPC now.
func (f *outFrame) encoded() mem.BufferSlice {
	f.expect = max(len(f.b)+len(f.b)/4, f.expect-f.expect/8)
	outside := f.outside
	f.outside = nil
	return f.pool.Pieces(f.take(), outside)
}

// reset makes the frame empty, whether it was taken or not.
func (f *outFrame) reset() {
	if f.buf != nil {
		f.pool.Put(f.take())
	}
	f.results, f.outside = 0, nil
}

// finish adds what is not a result.
func (f *outFrame) finish(pong uint64, away *queuepb.GoingAway) {
	if pong == 0 && away == nil {
		return
	}
	f.room(resultRoom)
	if away != nil {
		f.b = wire.AppendMessage(f.b, fieldGoingAway, away)
	}
	f.b = wire.AppendNumber(f.b, fieldPong, pong)
}

// add appends the result that an event is, and returns its size.
func (f *outFrame) add(k kind, id uint64, done bool, body any) int {
	f.results++
	large := bodyOf(body)
	if len(large) < buffers.Large {
		f.room(resultRoom + len(large) + roomOf(body))
		large = nil
	} else {
		f.room(resultRoom)
		f.outside = append(f.outside, buffers.Outside{Body: mem.SliceBuffer(large)})
	}
	b, result := wire.Begin(f.b, fieldResults, max(256, len(large)))
	from := len(b)
	b = wire.AppendNumber(b, 1, id)
	switch body := body.(type) {
	case *broker.Delivery:
		b = f.delivery(b, body)
	case *broker.ReplyItem:
		b = f.reply(b, k, body)
	case *broker.Receipt:
		b = f.receipt(b, k, body)
	case *broker.ReplyResult:
		b = appendOutcome(b, body)
	case *batch:
		if body.refused {
			return f.addGenerated(k, id, done, body)
		}
		b = f.batch(b, body)
	case *broker.Settled:
		if len(body.Replies)+len(body.Receipts) > 0 {
			return f.addGenerated(k, id, done, body)
		}
		b = appendSettled(b, body)
	case *broker.End:
		if body.Reason != broker.EndOK {
			return f.addGenerated(k, id, done, body)
		}
		b = appendEndOK(b, k, body)
	default:
		return f.addGenerated(k, id, done, body)
	}
	b = wire.AppendFlag(b, fieldDone, done)
	size := len(b) - from + len(large)
	f.b = f.end(b, result, len(large))
	return size
}

// bodyOf is the part of an event that is written as it is.
func bodyOf(body any) []byte {
	switch body := body.(type) {
	case *broker.Delivery:
		return body.Body
	case *broker.ReplyItem:
		return body.Body
	}
	return nil
}

// roomOf is how long a result is at most beyond resultRoom and its body.
func roomOf(body any) int {
	if b, ok := body.(*batch); ok {
		return len(b.results) * receiptRoom
	}
	return 0
}

// body appends the body of the result at hand, and returns how much of it stays outside.
func (f *outFrame) body(b, body []byte) ([]byte, int) {
	if len(body) < buffers.Large {
		return append(b, body...), 0
	}
	f.outside[len(f.outside)-1].At = len(b)
	return b, len(body)
}

// end ends a nested message of which a body of so many bytes stays outside.
func (f *outFrame) end(b []byte, m wire.Mark, large int) []byte {
	n := len(b)
	b = m.EndWith(b, large)
	if large > 0 {
		f.outside[len(f.outside)-1].At += len(b) - n
	}
	return b
}

func (f *outFrame) addGenerated(k kind, id uint64, done bool, body any) int {
	plain := frame{keys: f.keys}
	r := plain.result(k, id, done, body)
	f.b = wire.AppendMessage(f.b, fieldResults, r)
	return r.SizeVT()
}

func (f *outFrame) delivery(b []byte, d *broker.Delivery) []byte {
	b, response := wire.Begin(b, protowire.Number(kindConsume), max(256, len(d.Body)))
	b, delivery := wire.Begin(b, 2, max(256, len(d.Body)))
	b = appendMessageID(b, 1, d.Message)
	b = wire.AppendText(b, 2, d.Queue)
	b = f.handle(b, 3, d.Lease)
	b = appendTime(b, 4, d.LeaseExpires)
	b = wire.AppendNumber(b, 5, uint64(d.Attempt))
	b = wire.AppendNumber(b, 6, uint64(d.Failures))
	b, message := wire.Begin(b, 7, max(128, len(d.Body)))
	b, large := f.body(b, d.Body)
	b = f.handle(b, 4, d.ReplyTo)
	b = f.end(b, message, large)
	b = appendTime(b, 8, d.EnqueuedAt)
	b = appendTime(b, 9, d.Deadline)
	for _, name := range d.Ended {
		b = wire.AppendText(b, 10, name)
	}
	b = wire.AppendNumber(b, 11, uint64(d.Priority))
	b = wire.AppendText(b, 12, d.Group)
	return f.end(f.end(b, delivery, large), response, large)
}

func (f *outFrame) reply(b []byte, k kind, item *broker.ReplyItem) []byte {
	b, response := wire.Begin(b, protowire.Number(k), max(128, len(item.Body)))
	b, reply := wire.Begin(b, 2, max(128, len(item.Body)))
	b, large := f.body(b, item.Body)
	b = wire.AppendNumber(b, 1, item.Sequence)
	if !item.Source.IsZero() {
		b = appendMessageID(b, 6, item.Source)
	}
	b = wire.AppendNumber(b, 7, uint64(item.Attempt))
	for _, name := range item.Ended {
		b = wire.AppendText(b, 8, name)
	}
	return f.end(f.end(b, reply, large), response, large)
}

func appendEndOK(b []byte, k kind, end *broker.End) []byte {
	b, response := wire.Begin(b, protowire.Number(k), 8)
	b, inner := wire.Begin(b, 3, 4)
	b = wire.AppendNumber(b, 1, uint64(end.Reason))
	b = wire.AppendNumber(b, 3, end.LastSequence)
	return response.End(inner.End(b))
}

func (f *outFrame) receipt(b []byte, k kind, r *broker.Receipt) []byte {
	b, response := wire.Begin(b, protowire.Number(k), 128)
	return response.End(f.oneReceipt(b, r))
}

// batch writes the receipts of a batch none of which was refused.
func (f *outFrame) batch(b []byte, all *batch) []byte {
	b, response := wire.Begin(b, protowire.Number(kindEnqueueBatch), len(all.results)*36)
	for i := range all.results {
		var result wire.Mark
		b, result = wire.Begin(b, 1, 64)
		b = result.End(f.oneReceipt(b, &all.results[i].receipt))
	}
	return response.End(b)
}

func (f *outFrame) oneReceipt(b []byte, r *broker.Receipt) []byte {
	guess := 64
	if r.Receive.Kind != 0 {
		guess = 128
	}
	b, receipt := wire.Begin(b, 1, guess)
	b = appendMessageID(b, 1, r.Message)
	b = f.handle(b, 2, r.Receive)
	b = appendTime(b, 3, r.PipeDeadline)
	b = wire.AppendFlag(b, 4, r.Duplicate)
	b = wire.AppendFlag(b, 5, r.QueueCreated)
	b = wire.AppendNumber(b, 6, uint64(r.Consumers))
	return receipt.End(b)
}

func appendOutcome(b []byte, r *broker.ReplyResult) []byte {
	b, response := wire.Begin(b, protowire.Number(kindReply), 8)
	b, result := wire.Begin(b, 1, 4)
	b = wire.AppendNumber(b, 1, uint64(r.Outcome))
	b = wire.AppendNumber(b, 2, uint64(r.EndReason))
	b = wire.AppendNumber(b, 3, r.Sequence)
	return response.End(result.End(b))
}

func appendSettled(b []byte, s *broker.Settled) []byte {
	b, response := wire.Begin(b, protowire.Number(kindSettle), 4)
	b = wire.AppendFlag(b, 1, s.Already)
	b = wire.AppendFlag(b, 2, s.Dead)
	return response.End(b)
}

// handle mints a token and appends it as a Handle; nothing for the claim of no handle.
func (f *outFrame) handle(b []byte, num protowire.Number, c handles.Claims) []byte {
	if c.Kind == 0 {
		return b
	}
	b, handle := wire.Begin(b, num, handles.TextSize+2)
	b, token := wire.Begin(b, 1, handles.TextSize)
	b, _ = f.keys.Mint(c).AppendText(b) // its error is always nil
	return handle.End(token.End(b))
}

func appendMessageID(b []byte, num protowire.Number, id broker.MessageID) []byte {
	b, text := wire.Begin(b, num, 23)
	return text.End(id.Append(b))
}

// appendTime appends a Timestamp; 0 is left out.
func appendTime(b []byte, num protowire.Number, at broker.Time) []byte {
	if at == 0 {
		return b
	}
	seconds, nanos := at.Split()
	return wire.AppendSeconds(b, num, seconds, nanos)
}
