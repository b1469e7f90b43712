package server

import (
	"fmt"
	"reflect"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/buffers"
)

// codec is gRPC's "proto" codec, made fast for the messages of our contract, which have a generated marshaller; those
// of health and reflection go the usual way.
//
// Marshalling goes into a buffer from a pool. Unmarshalling does not: the strings and bytes of a message share the
// buffer, so that it belongs to the message and goes with it. Frames of sessions are neither marshalled nor unmarshalled
// here, see [inFrame] and [outFrame]; both have a buffer from the pool.
type codec struct {
	fallback encoding.CodecV2
	limits   limits
	pool     mem.BufferPool
}

func newCodec(l limits, pool mem.BufferPool) *codec {
	return &codec{fallback: encoding.GetCodecV2(proto.Name), limits: l, pool: pool}
}

// generated is what vtprotobuf adds to a message.
type generated interface {
	SizeVT() int
	MarshalToSizedBufferVT(b []byte) (int, error)
	UnmarshalVTUnsafe(b []byte) error
	Reset()
	ProtoReflect() protoreflect.Message
}

// Name implements encoding.CodecV2.
func (c *codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2.
func (c *codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*outFrame); ok {
		return f.encoded(), nil
	}
	if f, ok := v.(*rawFrame); ok {
		return f.lend(), nil
	}
	m, ok := v.(generated)
	if !ok {
		return c.fallback.Marshal(v)
	}
	size := m.SizeVT()
	buf := c.pool.Get(size)
	if _, err := m.MarshalToSizedBufferVT((*buf)[:size]); err != nil {
		c.pool.Put(buf)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, c.pool)}, nil
}

// Unmarshal implements encoding.CodecV2. It does not fail for messages of the contract: gRPC would answer INTERNAL by
// itself, before any of our code sees the error. What is wrong is marked on the message, for frameError to find.
func (c *codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*inFrame); ok {
		if f.tooLarge = data.Len() > c.limits.frame; f.tooLarge {
			return nil
		}
		if f.kept = buffers.IsOneLarge(data, fieldOperations); f.kept {
			f.buf = mem.SliceBuffer(buffers.Join(data))
		} else {
			f.buf = data.MaterializeToBuffer(c.pool)
		}
		return nil
	}
	if f, ok := v.(*rawFrame); ok {
		f.keep(data)
		return nil
	}
	m, ok := v.(generated)
	if !ok {
		return c.fallback.Unmarshal(data, v)
	}
	buf := buffers.Join(data)
	wrong := faultNone
	if sh, ok := shapes[reflect.TypeOf(v)]; ok {
		s := newScan(len(buf), 0)
		wrong = s.message(buf, sh, 1)
	}
	if wrong == faultNone && m.UnmarshalVTUnsafe(buf) != nil {
		wrong = faultMalformed
	}
	if wrong != faultNone {
		m.Reset()
		m.ProtoReflect().SetUnknown(faultMarks[wrong : wrong+1])
	}
	return nil
}

// faultMarks has a byte for each fault. It is set as the unknown fields of a message that was not decoded, and known by
// its place in memory, so that no bytes from outside can be taken for it.
var faultMarks = make([]byte, faultUnknown+1)

// faultOf finds the mark.
func faultOf(m generated) fault {
	unknown := m.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return faultNone
	}
	for f := range faultMarks {
		if &unknown[0] == &faultMarks[f] {
			return fault(f)
		}
	}
	return faultNone
}

// frameError is what the codec found wrong with a message.
func (l limits) frameError(v any) error {
	switch m := v.(type) {
	case *inFrame:
		if m.tooLarge {
			return refuse(reasonFrameTooLarge, "", fmt.Sprintf(
				"a session frame may have %d bytes: put fewer operations into one", l.frame))
		}
	case generated:
		if f := faultOf(m); f != faultNone {
			return f.error()
		}
	}
	return nil
}

func errFrameMalformed() *broker.Error {
	return refuse(reasonFrameMalformed, "",
		"the bytes are not a message of this RPC: encode them with a stub made from the server's queue.proto")
}
