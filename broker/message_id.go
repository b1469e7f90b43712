package broker

import (
	"encoding/base32"
	"encoding/binary"
)

// MessageID names a message, in logs and to administrators. It gives no right. The zero MessageID names none.
//
// Slot is where the message lies in its shard; Tag, drawn anew for each message, tells it from others that lay there
// before.
type MessageID struct {
	Store uint32
	Shard uint16
	Slot  uint32
	Tag   uint32
}

// messageIDLen is the length of the text form, in characters.
const messageIDLen = 23

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// IsZero reports whether id names no message.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// String is the text form: 23 characters of base32hex in lower case.
func (id MessageID) String() string {
	var raw [14]byte
	binary.BigEndian.PutUint32(raw[0:], id.Store)
	binary.BigEndian.PutUint16(raw[4:], id.Shard)
	binary.BigEndian.PutUint32(raw[6:], id.Slot)
	binary.BigEndian.PutUint32(raw[10:], id.Tag)
	var text [messageIDLen]byte
	idEncoding.Encode(text[:], raw[:])
	return string(text[:])
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
