package client

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
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
}

type itemCredit struct {
	id    uint64
	items uint32
}

func (f *frame) empty() bool {
	return len(f.operations) == 0 && len(f.credits) == 0 && len(f.detach) == 0 && f.creditBytes == 0
}

func (f *frame) reset() {
	clear(f.operations)
	*f = frame{operations: f.operations[:0], credits: f.credits[:0], detach: f.detach[:0]}
}

// size is at least what encode writes.
func (f *frame) size() int {
	n := 48 + len(f.credits)*24 + len(f.detach)*11
	for _, op := range f.operations {
		n += maxOperationOverhead + len(op.body)
	}
	return n
}

// encode writes the frame into a buffer of gRPC's pool.
func (f *frame) encode() *outFrame {
	buf := mem.DefaultBufferPool().Get(f.size())
	b := (*buf)[:0]
	for _, op := range f.operations {
		b = op.appendTo(b)
	}
	if f.creditBytes != 0 {
		b = appendCredit(b, 0, 0, f.creditBytes)
	}
	for _, c := range f.credits {
		b = appendCredit(b, c.id, c.items, 0)
	}
	for _, id := range f.detach { // one by one: packing saves nothing worth having
		b = appendNumber(b, 4, id)
	}
	b = appendNumber(b, 5, f.answeredBelow)
	b = appendNumber(b, 7, f.received)
	*buf = b
	return &outFrame{buf: buf}
}

func appendCredit(b []byte, id uint64, items uint32, bytes uint64) []byte {
	b, m := begin(b, 3, 24)
	b = appendNumber(b, 1, id)
	b = appendNumber(b, 2, uint64(items))
	b = appendNumber(b, 3, bytes)
	return m.end(b)
}

// helloFrame opens a session.
func helloFrame(h *queuepb.Hello) *queuepb.SessionRequest { return &queuepb.SessionRequest{Hello: h} }

// field reads the next field of a message: its number, and its value in one of two forms.
func field(b []byte) (num protowire.Number, number uint64, bytes, rest []byte, err error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, nil, nil, errMalformed
	}
	b = b[n:]
	switch typ {
	case protowire.VarintType:
		number, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		bytes, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		return 0, 0, nil, nil, errMalformed
	}
	return num, number, bytes, b[n:], nil
}

// parseFrame takes a SessionResponse apart, without decoding the responses in it: that is for their sinks. Results are
// appended to res.
func parseFrame(b []byte, res []result) (_ []result, away *queuepb.GoingAway, err error) {
	for len(b) > 0 {
		var num protowire.Number
		var bytes []byte
		if num, _, bytes, b, err = field(b); err != nil {
			return res, nil, err
		}
		switch num {
		case 2:
			r := result{size: len(bytes)}
			if err = r.parse(bytes); err != nil {
				return res, nil, err
			}
			res = append(res, r)
		case 3:
			away = new(queuepb.GoingAway)
			if err = away.UnmarshalVT(bytes); err != nil {
				return res, nil, errMalformed
			}
		}
	}
	return res, away, nil
}

func (r *result) parse(b []byte) error {
	for len(b) > 0 {
		num, number, bytes, rest, err := field(b)
		if err != nil {
			return err
		}
		switch {
		case num == 1:
			r.id = number
		case num == 16:
			r.done = number != 0
		case num >= protowire.Number(opEnqueue) && num <= protowire.Number(resultError):
			r.kind, r.body = opKind(num), bytes
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
	num, _, bytes, _, err := field(b)
	if err != nil {
		return 0, nil
	}
	return num, bytes
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
	return fromWire(&p)
}
