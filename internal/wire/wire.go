// Package wire reads and writes the wire format of protocol buffers by hand. It is for the few messages of a session's
// hot path, where building the generated structs costs more than all the rest: each use is held against the generated
// code by a test. Everything else uses the generated code.
//
// The functions that write append to a slice and leave out what has its default value, as the format wants it.
package wire

import (
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed says that bytes are not a message.
var ErrMalformed = errors.New("malformed message")

// appendTag and appendVarint are protowire's, with a way of their own for what has one byte, which is nearly all that is
// written here: that saves worker and server of small messages 3 % of their CPU.
func appendTag(b []byte, num protowire.Number, t protowire.Type) []byte {
	if num < 16 {
		return append(b, byte(num)<<3|byte(t))
	}
	return protowire.AppendTag(b, num, t)
}

func appendVarint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return protowire.AppendVarint(b, v)
}

// A Mark remembers where a nested message began and how much room its length has.
type Mark struct{ at, room int }

// Begin appends the tag of a nested message and leaves room for its length, guessed from its size in bytes; a wrong
// guess costs a move of what the message has.
func Begin(b []byte, num protowire.Number, guess int) ([]byte, Mark) {
	b = appendTag(b, num, protowire.BytesType)
	m := Mark{at: len(b), room: protowire.SizeVarint(uint64(guess))}
	return append(b, "\x00\x00\x00\x00\x00"[:m.room]...), m
}

// End writes the length of the message that m began.
func (m Mark) End(b []byte) []byte { return m.EndWith(b, 0) }

// EndWith does so for a message of which some bytes are elsewhere.
func (m Mark) EndWith(b []byte, elsewhere int) []byte {
	from := m.at + m.room
	here := len(b) - from
	size := here + elsewhere
	need := protowire.SizeVarint(uint64(size))
	if need != m.room {
		for range need - m.room {
			b = append(b, 0)
		}
		copy(b[m.at+need:], b[from:from+here])
		b = b[:m.at+need+here]
	}
	appendVarint(b[m.at:m.at], uint64(size))
	return b
}

// AppendText appends a string field.
func AppendText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return append(appendVarint(appendTag(b, num, protowire.BytesType), uint64(len(s))), s...)
}

// AppendBytes appends a bytes field, or a nested message that is encoded already. It is written even if it is empty.
func AppendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return append(appendVarint(appendTag(b, num, protowire.BytesType), uint64(len(v))), v...)
}

// AppendNumber appends an integer or an enum.
func AppendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendVarint(appendTag(b, num, protowire.VarintType), v)
}

// AppendFlag appends a bool.
func AppendFlag(b []byte, num protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return AppendNumber(b, num, 1)
}

// AppendSeconds appends a google.protobuf.Duration or Timestamp.
func AppendSeconds(b []byte, num protowire.Number, seconds, nanos int64) []byte {
	b, m := Begin(b, num, 16)
	b = AppendNumber(b, 1, uint64(seconds))
	b = AppendNumber(b, 2, uint64(nanos))
	return m.End(b)
}

// AppendDuration appends a google.protobuf.Duration; 0 is left out.
func AppendDuration(b []byte, num protowire.Number, d time.Duration) []byte {
	if d == 0 {
		return b
	}
	return AppendSeconds(b, num, int64(d/time.Second), int64(d%time.Second))
}

// A Generated message has the marshalling code of vtprotobuf.
type Generated interface {
	SizeVT() int
	MarshalToSizedBufferVT(b []byte) (int, error)
}

// AppendMessage appends a nested message through its generated code.
func AppendMessage(b []byte, num protowire.Number, m Generated) []byte {
	size := m.SizeVT()
	b = appendVarint(appendTag(b, num, protowire.BytesType), uint64(size))
	at := len(b)
	for range size {
		b = append(b, 0)
	}
	if _, err := m.MarshalToSizedBufferVT(b[at:]); err != nil {
		return b[:at] // unreachable: the buffer has the size that the message named
	}
	return b
}

// A Field is one field as it stands in a message: Number has the value of an integer, Bytes that of anything with a
// length, a part of what was read.
type Field struct {
	Num    protowire.Number
	Type   protowire.Type
	Number uint64
	Bytes  []byte
}

// Next reads the first field of b, which is not empty, and returns what is behind it.
func (f *Field) Next(b []byte) (rest []byte, err error) {
	var n int
	if b[0] < 0x80 { // the fields below 16
		f.Num, f.Type, n = protowire.Number(b[0]>>3), protowire.Type(b[0]&7), 1
		if f.Num == 0 {
			return nil, ErrMalformed
		}
	} else if f.Num, f.Type, n = protowire.ConsumeTag(b); n < 0 {
		return nil, ErrMalformed
	}
	b = b[n:]
	f.Number, f.Bytes = 0, nil
	switch f.Type {
	case protowire.VarintType:
		f.Number, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		if len(b) > 0 && b[0] < 0x80 {
			if n = 1 + int(b[0]); n > len(b) {
				return nil, ErrMalformed
			}
			f.Bytes = b[1:n:n]
			return b[n:], nil
		}
		f.Bytes, n = protowire.ConsumeBytes(b)
		f.Bytes = f.Bytes[:len(f.Bytes):len(f.Bytes)] // who appends to it shall not write over what is behind it
	default:
		n = protowire.ConsumeFieldValue(f.Num, f.Type, b)
	}
	if n < 0 {
		return nil, ErrMalformed
	}
	return b[n:], nil
}
