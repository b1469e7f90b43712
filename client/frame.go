package client

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/buffers"
	"github.com/replyq/replyq/internal/wire"
)

var errMalformed = errors.New("the server sent a frame that cannot be read")

// maxFrameOperations is how many operations go into one frame.
const maxFrameOperations = 512

// frame is what a sender has gathered under the lock, to be encoded outside of it. It is used again and again.
type frame struct {
	operations    []*operation
	credits       []itemCredit
	detach        []uint64
	creditBytes   uint64
	answeredBelow uint64
	received      uint64
	ping          bool
}

type itemCredit struct {
	id    uint64
	items uint32
}

func (f *frame) empty() bool {
	return len(f.operations) == 0 && len(f.credits) == 0 && len(f.detach) == 0 && f.creditBytes == 0 && !f.ping
}

func (f *frame) reset() {
	clear(f.operations)
	*f = frame{operations: f.operations[:0], credits: f.credits[:0], detach: f.detach[:0]}
}

// size is at least what encode writes into one piece.
func (f *frame) size() int {
	n := 48 + len(f.credits)*24 + len(f.detach)*11
	for _, op := range f.operations {
		n += maxOperationOverhead
		if !op.isLarge() {
			n += len(op.body)
		}
	}
	return n
}

// encode writes the frame into a buffer of the pool.
func (f *frame) encode(pool *buffers.Pool) *outFrame {
	buf := pool.Get(f.size())
	out := &outFrame{buf: buf}
	b := (*buf)[:0]
	for _, op := range f.operations {
		var cut int
		if b, cut = op.appendTo(b); cut > 0 {
			body := op.lent
			if body == nil {
				body = mem.SliceBuffer(op.body)
			} else {
				body.Ref()
			}
			out.outside = append(out.outside, buffers.Outside{At: cut, Body: body})
		}
	}
	if f.creditBytes != 0 {
		b = appendCredit(b, 0, 0, f.creditBytes)
	}
	for _, c := range f.credits {
		b = appendCredit(b, c.id, c.items, 0)
	}
	for _, id := range f.detach { // one by one: packing saves nothing worth having
		b = wire.AppendNumber(b, 4, id)
	}
	b = wire.AppendNumber(b, 5, f.answeredBelow)
	b = wire.AppendFlag(b, 6, f.ping)
	b = wire.AppendNumber(b, 7, f.received)
	*buf = b
	return out
}

func appendCredit(b []byte, id uint64, items uint32, bytes uint64) []byte {
	b, m := wire.Begin(b, 3, 24)
	b = wire.AppendNumber(b, 1, id)
	b = wire.AppendNumber(b, 2, uint64(items))
	b = wire.AppendNumber(b, 3, bytes)
	return m.End(b)
}

// helloFrame opens a session.
func helloFrame(h *queuepb.Hello) *queuepb.SessionRequest { return &queuepb.SessionRequest{Hello: h} }

// fieldResults is the number of SessionResponse.results.
const fieldResults = 2

// parseFrame takes a SessionResponse apart, without decoding the responses in it: that is for their sinks. Results are
// appended to res.
func parseFrame(b []byte, res []result) (_ []result, away *queuepb.GoingAway, err error) {
	var f wire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return res, nil, errMalformed
		}
		switch f.Num {
		case fieldResults:
			r := result{size: len(f.Bytes)}
			if err = r.parse(f.Bytes); err != nil {
				return res, nil, err
			}
			res = append(res, r)
		case 3:
			away = new(queuepb.GoingAway)
			if err = away.UnmarshalVT(f.Bytes); err != nil {
				return res, nil, errMalformed
			}
		}
	}
	return res, away, nil
}

func (r *result) parse(b []byte) error {
	var f wire.Field
	for len(b) > 0 {
		rest, err := f.Next(b)
		if err != nil {
			return errMalformed
		}
		switch {
		case f.Num == 1:
			r.id = f.Number
		case f.Num == 16:
			r.done = f.Number != 0
		case f.Num >= protowire.Number(opEnqueue) && f.Num <= protowire.Number(resultError):
			r.kind, r.body = opKind(f.Num), f.Bytes
		}
		b = rest
	}
	if r.kind == resultError {
		r.done = true
	}
	return nil
}

// event takes the one event out of a CallResponse, ReceiveResponse or ConsumeResponse: its number and its bytes.
func event(b []byte) (num protowire.Number, bytes []byte) {
	var f wire.Field
	if len(b) == 0 {
		return 0, nil
	}
	if _, err := f.Next(b); err != nil {
		return 0, nil
	}
	return f.Num, f.Bytes
}

// failure is the error that a result brings, nil if it brings none.
func (r *result) failure() *Error {
	if r.err != nil {
		return fromStatus(r.err, nil)
	}
	if r.kind != resultError {
		return nil
	}
	var p queuepb.Error
	if err := p.UnmarshalVT(r.body); err != nil {
		return &Error{Code: codes.Internal, Message: errMalformed.Error(), Outcome: OutcomeUnknown}
	}
	e := fromWire(&p)
	if r.op != nil && r.op.late && leaseIsLost(e) {
		e.Outcome = OutcomeUnknown // it may have settled the delivery the first time
	}
	return e
}
