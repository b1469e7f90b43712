package buffers

import (
	"bytes"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Large is from how many bytes on a body is not copied on its way.
const Large = 64 << 10

// Outside is a body that is not copied into a frame: it stands before what the frame has from At on. gRPC writes it out as
// it is, which saves the server a tenth of its CPU for a reply of 1 MiB.
type Outside struct {
	At   int
	Body mem.Buffer
}

// Pieces is a frame for gRPC, with what stands outside of it, by its place. The frame's buffer and the bodies belong to gRPC
// then; the buffer comes back to the pool.
func (p *Pool) Pieces(frame *[]byte, outside []Outside) mem.BufferSlice {
	rest := mem.NewBuffer(frame, p)
	if len(outside) == 0 {
		return mem.BufferSlice{rest}
	}
	all, at := make(mem.BufferSlice, 0, 2*len(outside)+1), 0
	for _, o := range outside {
		var before mem.Buffer
		before, rest = mem.SplitUnsafe(rest, o.At-at)
		all = append(all, before, o.Body)
		at = o.At
	}
	return append(all, rest)
}

// IsOneLarge reports whether a frame is one element of a repeated field and hardly anything else, as it mostly is with a
// large payload. Such a frame gets memory of its own, with [Join], and whoever keeps the payload keeps a part of it: a copy
// of 1 MiB into memory that was cleared before took a sixth of the server's CPU for it.
func IsOneLarge(frame mem.BufferSlice, field protowire.Number) bool {
	size := frame.Len()
	if size < Large || len(frame) == 0 {
		return false
	}
	first := frame[0].ReadOnlyData()
	if len(first) == 0 || protowire.Number(first[0]>>3) != field || protowire.Type(first[0]&7) != protowire.BytesType {
		return false
	}
	n, _ := protowire.ConsumeVarint(first[1:])
	return n < uint64(size) && n >= uint64(NearlyAll(size)) //nolint:gosec // not negative
}

// NearlyAll is so much of a frame that the rest does not matter: what counts for the memory of a message that keeps its
// frame is the message.
func NearlyAll(frame int) int { return frame - frame/64 }

// Join is what [mem.BufferSlice.Materialize] does, without clearing the memory first.
func Join(frame mem.BufferSlice) []byte {
	pieces := make([][]byte, len(frame))
	for i, b := range frame {
		pieces[i] = b.ReadOnlyData()
	}
	return bytes.Join(pieces, nil)
}
