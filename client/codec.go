package client

import (
	"bytes"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/internal/buffers"
	"github.com/replyq/replyq/internal/wire"
)

// outFrame is a frame that is already encoded, in a buffer of the client's pool. It belongs to gRPC once it was sent.
type outFrame struct {
	buf     *[]byte
	outside []outside // by their place
}

// outside is a body that is not copied into the frame: it stands before buf[at:].
type outside struct {
	at   int
	body mem.Buffer
}

// pieces is the frame for gRPC.
func (f *outFrame) pieces(pool *buffers.Pool) mem.BufferSlice {
	rest := mem.NewBuffer(f.buf, pool)
	if len(f.outside) == 0 {
		return mem.BufferSlice{rest}
	}
	all, at := make(mem.BufferSlice, 0, 2*len(f.outside)+1), 0
	for _, o := range f.outside {
		var before mem.Buffer
		before, rest = mem.SplitUnsafe(rest, o.at-at)
		all = append(all, before, o.body)
		at = o.at
	}
	return append(all, rest)
}

// inFrame is a frame as it came: whoever received it frees buf when nothing in it is needed any more.
type inFrame struct {
	buf  mem.Buffer
	kept bool // buf is no pool's: what is large in it may be kept
}

// isOneLarge tells whether a frame is one large result, as it mostly is with a large payload. Such a frame gets memory of
// its own, and the payload stays in it.
func isOneLarge(data mem.BufferSlice) bool {
	size := data.Len()
	if size < largeBody || len(data) == 0 {
		return false
	}
	first := data[0].ReadOnlyData()
	if len(first) == 0 || first[0] != fieldResults<<3|byte(protowire.BytesType) {
		return false
	}
	n, _ := protowire.ConsumeVarint(first[1:])
	return n < uint64(size) && n >= uint64(size-size/8) //nolint:gosec // not negative
}

// join is what [mem.BufferSlice.Materialize] does, without clearing the memory first.
func join(data mem.BufferSlice) []byte {
	pieces := make([][]byte, len(data))
	for i, b := range data {
		pieces[i] = b.ReadOnlyData()
	}
	return bytes.Join(pieces, nil)
}

// vtMessage is a message with generated marshalling.
type vtMessage interface {
	wire.Generated
	UnmarshalVT(b []byte) error
}

// codec encodes for gRPC: frames of sessions as they are, generated messages by their own methods, and others (health,
// reflection, over [Client.Conn]) as usual. Its name on the wire is the usual one.
type codec struct{ pool *buffers.Pool }

// Name implements encoding.CodecV2.
func (*codec) Name() string { return "proto" }

// Marshal takes its buffers from the pool, which gets them back when they were written.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	pool := c.pool
	switch m := v.(type) {
	case *outFrame:
		return m.pieces(pool), nil
	case vtMessage:
		buf := pool.Get(m.SizeVT())
		if _, err := m.MarshalToSizedBufferVT(*buf); err != nil {
			pool.Put(buf)
			return nil, err
		}
		return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
	case proto.Message:
		b, err := proto.Marshal(m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	default:
		return nil, fmt.Errorf("cannot encode %T", v)
	}
}

// Unmarshal copies what messages keep; a frame keeps the buffer itself.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*inFrame); ok {
		if m.kept = isOneLarge(data); m.kept {
			m.buf = mem.SliceBuffer(join(data))
		} else {
			m.buf = data.MaterializeToBuffer(c.pool)
		}
		return nil
	}
	buf := data.MaterializeToBuffer(c.pool)
	defer buf.Free()
	switch m := v.(type) {
	case vtMessage:
		return m.UnmarshalVT(buf.ReadOnlyData())
	case proto.Message:
		return proto.Unmarshal(buf.ReadOnlyData(), m)
	default:
		return fmt.Errorf("cannot decode %T", v)
	}
}
