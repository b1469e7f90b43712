package client

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/internal/buffers"
	"github.com/replyq/replyq/internal/wire"
)

// outFrame is a frame that is already encoded, in a buffer of the client's pool. It belongs to gRPC once it was sent.
type outFrame struct {
	buf     *[]byte
	outside []buffers.Outside // by their place
}

// inFrame is a frame as it came: whoever received it frees buf when nothing in it is needed any more.
type inFrame struct {
	buf  mem.Buffer
	kept bool // buf is no pool's: what is large in it may be kept
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
		return pool.Pieces(m.buf, m.outside), nil
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
		if m.kept = buffers.IsOneLarge(data, fieldResults); m.kept {
			m.buf = mem.SliceBuffer(buffers.Join(data))
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
