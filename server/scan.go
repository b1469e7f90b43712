package server

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/broker"
)

// A scan walks over the wire form of a message before the generated code decodes it, and refuses what would take far more
// memory as messages than it has bytes: two bytes can stand for a struct of hundreds. It allocates nothing. What it lets
// pass takes, decoded, at most scanHeapFactor times the bytes of the message, and scanHeapBase beside.
//
// One scan may look at several messages that came as one, the operations of a frame: the bounds are those of all of them.
type scan struct {
	elements, maxElements int
	unknown               int // bytes of unknown fields
	heap, maxHeap         int // bytes that decoding will allocate, rather too many
}

// The bounds of a scan.
const (
	maxElements       = 64 << 10
	elementBytes      = 8     // an element has so many bytes on average,
	freeElements      = 1_024 // these aside
	maxNesting        = 32
	maxUnknown        = 4 << 10
	scanHeapFactor    = 3
	scanHeapBase      = 1 << 20
	scanHeapOperation = 1 << 10 // beside, for each operation of a frame
)

// newScan is a scan of a message of so many bytes, or of a frame with so many operations.
func newScan(size, operations int) scan {
	return scan{
		maxElements: min(maxElements, size/elementBytes+freeElements),
		maxHeap:     scanHeapFactor*size + scanHeapBase + scanHeapOperation*operations,
	}
}

// A fault is what a scan finds wrong.
type fault uint8

const (
	faultNone fault = iota
	faultMalformed
	faultElements
	faultNesting
	faultUnknown
)

// error is the fault as a client sees it; nil for none.
func (f fault) error() *broker.Error {
	switch f {
	case faultMalformed:
		return errFrameMalformed()
	case faultElements:
		return refuse(reasonTooManyElements, "", fmt.Sprintf(
			"the message is made of too many small parts: at most %d, and one for %d bytes and %d beside; split it",
			maxElements, elementBytes, freeElements))
	case faultNesting:
		return refuse(reasonNestingTooDeep, "", fmt.Sprintf("more than %d messages within each other: send none but those of queue.proto", maxNesting))
	case faultUnknown:
		return refuse(reasonUnknownFieldsTooLarge, "", fmt.Sprintf(
			"over %d bytes in fields that the server does not know: encode with a stub made from its queue.proto", maxUnknown))
	}
	return nil
}

// message scans one message. What it calls malformed the generated code does not take either.
func (s *scan) message(b []byte, sh *shape, depth int) fault {
	if depth > maxNesting {
		return faultNesting
	}
	if s.heap += sh.size; s.heap > s.maxHeap {
		return faultElements
	}
	var seen uint64 // of the fields below 64
	for len(b) > 0 {
		num, typ, n := tagOf(b)
		if n < 0 {
			return faultMalformed
		}
		field := sh.field(num)
		if field == nil {
			rest, f := s.unknownField(b, depth)
			if f != faultNone {
				return f
			}
			b = rest
			continue
		}
		b = b[n:]
		again := field.repeated || num >= 64 || seen&(1<<num) != 0
		if num < 64 {
			seen |= 1 << num
		}
		var f fault
		if b, f = s.value(b, typ, field, again, depth); f != faultNone {
			return f
		}
	}
	return faultNone
}

// value scans the value of a known field. again says that it is one of several: an element.
func (s *scan) value(b []byte, typ protowire.Type, field *fieldShape, again bool, depth int) ([]byte, fault) {
	if typ != field.wire && (typ != protowire.BytesType || !field.packed) {
		return nil, faultMalformed
	}
	var inside []byte
	var n int
	if typ == protowire.BytesType {
		inside, n = protowire.ConsumeBytes(b)
	} else {
		n = protowire.ConsumeFieldValue(1, typ, b)
	}
	if n < 0 {
		return nil, faultMalformed
	}
	count := 0
	switch {
	case typ != field.wire:
		count = packedNumbers(inside, field.wire)
	case again && field.grows:
		count = 1
	}
	s.elements += count
	s.heap += field.size * max(count, 1)
	if s.elements > s.maxElements || s.heap > s.maxHeap {
		return nil, faultElements
	}
	if field.message != nil {
		return b[n:], s.message(inside, field.message, depth+1)
	}
	return b[n:], faultNone
}

// packedNumbers counts the numbers of a packed field, rather too many.
func packedNumbers(b []byte, wire protowire.Type) int {
	switch wire {
	case protowire.Fixed32Type:
		return (len(b) + 3) / 4
	case protowire.Fixed64Type:
		return (len(b) + 7) / 8
	}
	n := 0
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

// unknownField scans a field that the server does not know, its tag included, and returns what is behind it. Groups, of
// which the contract has none, nest.
func (s *scan) unknownField(b []byte, depth int) (rest []byte, _ fault) {
	rest = b
	for groups := 0; ; {
		num, typ, n := tagOf(rest)
		if n < 0 {
			return nil, faultMalformed
		}
		rest = rest[n:]
		switch typ {
		case protowire.StartGroupType:
			if groups++; depth+groups > maxNesting {
				return nil, faultNesting
			}
		case protowire.EndGroupType:
			groups--
		default:
			if n = protowire.ConsumeFieldValue(num, typ, rest); n < 0 {
				return nil, faultMalformed
			}
			rest = rest[n:]
		}
		size := len(b) - len(rest)
		switch {
		case groups < 0:
			return nil, faultMalformed
		case s.unknown+size > maxUnknown:
			return nil, faultUnknown
		case groups == 0:
			s.unknown += size
			s.heap += size
			return rest, faultNone
		case len(rest) == 0:
			return nil, faultMalformed
		}
	}
}

// tagOf reads the tag that b, which is not empty, begins with. n is negative if it is none.
func tagOf(b []byte) (num protowire.Number, typ protowire.Type, n int) {
	if c := b[0]; c >= 1<<3 && c < 0x80 {
		return protowire.Number(c >> 3), protowire.Type(c & 7), 1
	}
	return protowire.ConsumeTag(b)
}
