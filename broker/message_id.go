package broker

import (
	"encoding/base32"
	"encoding/binary"
)

// MessageID names a message, in logs and to administrators. It gives no right. The zero MessageID names none.
//
// Slot is where the message lies in its shard; Tag tells it from others that lay there before. Within a shard no two ids of
// 2³¹ messages that follow each other are alike.
type MessageID struct {
	Store uint32
	Shard uint16
	Slot  uint32
	Tag   uint32
}

// messageIDLen is the length of the text form, in characters.
const messageIDLen = 23

const idDigits = "0123456789abcdefghijklmnopqrstuv"

var idEncoding = base32.NewEncoding(idDigits).WithPadding(base32.NoPadding)

// IsZero reports whether id names no message.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// String is the text form: 23 characters of base32hex in lower case.
func (id MessageID) String() string {
	var text [messageIDLen]byte
	return string(id.Append(text[:0]))
}

// Append appends the text form to b.
func (id MessageID) Append(b []byte) []byte {
	// 112 bits, five at a time from the top.
	high := uint64(id.Store)<<32 | uint64(id.Shard)<<16 | uint64(id.Slot)>>16
	low := uint64(id.Slot)<<48 | uint64(id.Tag)<<16
	for range messageIDLen {
		b = append(b, idDigits[high>>59])
		high, low = high<<5|low>>59, low<<5
	}
	return b
}

// ParseMessageID reads the text form; ok is false if it is not one.
func ParseMessageID(text string) (id MessageID, ok bool) {
	var raw [14]byte
	if len(text) != messageIDLen {
		return MessageID{}, false
	}
	if n, err := idEncoding.Decode(raw[:], []byte(text)); err != nil || n != len(raw) {
		return MessageID{}, false
	}
	id = MessageID{
		Store: binary.BigEndian.Uint32(raw[0:]),
		Shard: binary.BigEndian.Uint16(raw[4:]),
		Slot:  binary.BigEndian.Uint32(raw[6:]),
		Tag:   binary.BigEndian.Uint32(raw[10:]),
	}
	return id, id.String() == text
}
