package server

import (
	"reflect"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/replyq/replyq/api/queuepb"
)

// A shape is what a [scan] has to know of a type of message: its fields, and what it costs to decode one.
type shape struct {
	fields []fieldShape // by number
	size   int          // of the struct, in bytes
}

type fieldShape struct {
	known    bool
	repeated bool // or a map
	packed   bool // may come packed
	grows    bool // each further one takes memory: all but single numbers and texts do
	wire     protowire.Type
	size     int // of what a value takes beside its struct: a place in a list or map, the wrapper of a oneof
	message  *shape
}

func (s *shape) field(num protowire.Number) *fieldShape {
	if int(num) >= len(s.fields) || !s.fields[num].known {
		return nil
	}
	return &s.fields[num]
}

// What values take. A list doubles as it grows, so that all the arrays that it had are three times what it needs; a map
// likewise, and its first entry makes room for eight.
const (
	pointerSize  = 3 * 8
	numberSize   = 3 * 8
	textSize     = 3 * 24
	mapEntrySize = 3*32 + 16
	mapSize      = 512
	wrapperSize  = 32
)

// shapes has the messages of the contract, by the type that the generated code has for them. It is read only.
var shapes = shapesOf(queuepb.File_api_queue_proto.Messages())

// operationShape and helloShape are of what sessions decode by themselves.
var (
	operationShape = shapeOf[*queuepb.Operation]()
	helloShape     = shapeOf[*queuepb.Hello]()
)

func shapeOf[M protoreflect.ProtoMessage]() *shape { return shapes[reflect.TypeFor[M]()] }

func shapesOf(messages protoreflect.MessageDescriptors) map[reflect.Type]*shape {
	byName := make(map[protoreflect.FullName]*shape)
	byType := make(map[reflect.Type]*shape)
	for i := range messages.Len() {
		name := messages.Get(i).FullName()
		sh := newShape(messages.Get(i), byName)
		if t, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
			byType[reflect.TypeOf(t.Zero().Interface())] = sh
		}
	}
	return byType
}

// newShape makes the shape of a message, and of those in it that are not in byName yet.
func newShape(d protoreflect.MessageDescriptor, byName map[protoreflect.FullName]*shape) *shape {
	if sh, ok := byName[d.FullName()]; ok {
		return sh
	}
	sh := &shape{size: structSize(d)}
	byName[d.FullName()] = sh
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		num := int(f.Number())
		for len(sh.fields) <= num {
			sh.fields = append(sh.fields, fieldShape{})
		}
		field := &sh.fields[num]
		*field = fieldShape{known: true, repeated: f.Cardinality() == protoreflect.Repeated, wire: wireType(f.Kind())}
		field.packed = field.repeated && field.wire != protowire.BytesType
		if f.Message() != nil {
			field.message = newShape(f.Message(), byName)
		}
		field.grows = field.repeated || field.message != nil || f.ContainingOneof() != nil
		field.size = valueSize(f)
	}
	return sh
}

// structSize is what a struct takes, with what the allocator rounds up. The entry of a map has none.
func structSize(d protoreflect.MessageDescriptor) int {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return 0
	}
	size := int(reflect.TypeOf(t.Zero().Interface()).Elem().Size())
	return size + size/8
}

func valueSize(f protoreflect.FieldDescriptor) int {
	switch {
	case f.IsMap():
		return mapEntrySize
	case f.ContainingOneof() != nil:
		return wrapperSize
	case f.Cardinality() != protoreflect.Repeated:
		return 0
	case f.Message() != nil:
		return pointerSize
	case wireType(f.Kind()) == protowire.BytesType:
		return textSize
	default:
		return numberSize
	}
}

func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	default:
		return protowire.VarintType
	}
}
