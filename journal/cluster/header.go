package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/replyq/replyq/journal"
)

// Formats of a message.
const (
	plainFormat  = 1
	packedFormat = 2 // its batch is compressed
)

// A kind says what a message is.
type kind byte

const (
	batchKind kind = 1 + iota // facts
	fenceKind                 // a new owner
	trimKind                  // nothing but what is trimmed
	partKind                  // of a batch that is too large for one message; its last part is of batchKind
)

// fixed is the size of a header without the node's name: checksum, format, kind, length of the name, numbers.
const fixed = 4 + 3 + 7*8

// maxNode is how long a node's name may be.
const maxNode = 255

var (
	errDamaged    = errors.New("damaged")
	castagnoli    = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a table
	byteOrder     = binary.BigEndian                  //nolint:gochecknoglobals // short for it
	errTooStrange = errors.New("of another format")
)

// A header is in front of each batch.
type header struct {
	kind     kind
	epoch    uint64           // of the owner that wrote it: rises with each fence
	number   uint64           // of the message in its epoch; the fence has 0
	writer   uint64           // drawn by each owner: tells two apart that tried for the same epoch
	position journal.Position // of the batch; of the next one in a fence or trim
	from     journal.Position // the first batch that is not trimmed
	start    uint64           // a sequence in the stream at or before that batch's
	part     uint64           // how many parts of the batch are before this one
	node     string
	packed   bool // the batch behind it is compressed
}

// encode returns the message of a batch, in memory if there is room, and compressed if it may be.
func (h *header) encode(memory []byte, shard int, batch []byte, packs bool) []byte {
	m := slices.Grow(memory[:0], fixed+len(h.node)+len(batch))
	m = append(m, 0, 0, 0, 0, plainFormat, byte(h.kind), byte(len(h.node)))
	for _, n := range []uint64{h.epoch, h.number, h.writer, uint64(h.position), uint64(h.from), h.start, h.part} {
		m = byteOrder.AppendUint64(m, n)
	}
	m = append(m, h.node...)
	if packed := false; !packs {
		m = append(m, batch...)
	} else if m, packed = pack(m, batch); packed {
		m[4] = packedFormat
	}
	byteOrder.PutUint32(m, checksum(shard, m[4:]))
	return m
}

// decode takes a message apart. The batch is part of the message, and still packed if it was.
func decode(shard int, m []byte) (header, []byte, error) {
	if len(m) < fixed {
		return header{}, nil, fmt.Errorf("a message of %d bytes: %w", len(m), errDamaged)
	}
	if byteOrder.Uint32(m) != checksum(shard, m[4:]) {
		return header{}, nil, fmt.Errorf("checksum: %w", errDamaged)
	}
	if m[4] != plainFormat && m[4] != packedFormat {
		return header{}, nil, fmt.Errorf("format %d: %w", m[4], errTooStrange)
	}
	end := fixed + int(m[6])
	if len(m) < end {
		return header{}, nil, fmt.Errorf("node name: %w", errDamaged)
	}
	at := func(i int) uint64 { return byteOrder.Uint64(m[7+8*i:]) }
	return header{
		kind: kind(m[5]), epoch: at(0), number: at(1), writer: at(2),
		position: journal.Position(at(3)), from: journal.Position(at(4)), start: at(5), part: at(6),
		node: string(bytes.Clone(m[fixed:end])), packed: m[4] == packedFormat,
	}, m[end:], nil
}

// checksum is over the shard too: a message of another one is damage.
func checksum(shard int, content []byte) uint32 {
	var s [8]byte
	byteOrder.PutUint64(s[:], uint64(shard)) //nolint:gosec // never negative
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, content)
}
