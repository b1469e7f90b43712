package server

import (
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/buffers"
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
	return buffers.NearlyAll(f.buf.Len())
}

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
