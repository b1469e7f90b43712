package server

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/buffers"
)

// scanOf scans a message by its own.
func scanOf(raw []byte, m pb.Message) fault {
	s := newScan(len(raw), 0)
	return s.message(raw, shapes[reflect.TypeOf(m)], 1)
}

// nest is a field within a field, so many times, of no field's number of the contract; as groups, since others cannot be
// told from bytes.
func nest(levels int) []byte {
	b := bytes.Repeat(protowire.AppendTag(nil, 200, protowire.StartGroupType), levels)
	return append(b, bytes.Repeat(protowire.AppendTag(nil, 200, protowire.EndGroupType), levels)...)
}

// unknownText is a field that the contract does not have, of so many bytes in all.
func unknownText(size int) []byte {
	for n := size; ; n-- {
		if b := protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, n)); len(b) <= size {
			return b
		}
	}
}

// TestScan: each bound, and what is just within it.
func TestScan(t *testing.T) {
	field := func(num protowire.Number, inside []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), inside)
	}
	times := bytes.Repeat
	for _, test := range []struct {
		name string
		m    pb.Message
		raw  []byte
		want fault
	}{
		{"nothing", &queuepb.EnqueueRequest{}, nil, faultNone},
		{"small parts", &queuepb.EnqueueBatchRequest{}, times(field(1, nil), 1365), faultNone},
		{"small parts, many", &queuepb.EnqueueBatchRequest{}, times(field(1, nil), 1366), faultElements},
		{"small parts, 1 MiB", &queuepb.EnqueueBatchRequest{}, times(field(1, nil), 1<<19), faultElements},
		{"parts", &queuepb.ExtendLeasesRequest{}, times(field(1, field(1, make([]byte, 70))), maxElements), faultNone},
		{"parts, many", &queuepb.ExtendLeasesRequest{}, times(field(1, field(1, make([]byte, 70))), maxElements+1), faultElements},
		{"texts, many", &queuepb.ConsumeRequest{}, times(field(1, nil), 1366), faultElements},
		{"entries, many", &queuepb.EnqueueRequest{}, field(2, times(field(3, nil), 1367)), faultElements},
		{"one field again and again", &queuepb.EnqueueRequest{}, times(field(3, nil), 1367), faultElements},
		{"members of a oneof, in turn", &queuepb.ReplyRequest{}, times(append(field(2, nil), field(3, nil)...), 700), faultElements},
		{"one text again and again", &queuepb.EnqueueRequest{}, times(field(1, nil), 10_000), faultNone},
		{"within each other", &queuepb.EnqueueRequest{}, nest(maxNesting - 1), faultNone},
		{"too deep", &queuepb.EnqueueRequest{}, nest(maxNesting), faultNesting},
		{"too deep in a message", &queuepb.EnqueueRequest{}, field(2, nest(maxNesting-1)), faultNesting},
		{"far too deep", &queuepb.EnqueueRequest{}, nest(20_000), faultNesting},
		{"unknown", &queuepb.EnqueueRequest{}, unknownText(maxUnknown), faultNone},
		{"unknown, large", &queuepb.EnqueueRequest{}, unknownText(maxUnknown + 1), faultUnknown},
		{"unknown, in all", &queuepb.EnqueueRequest{}, append(unknownText(maxUnknown/2), field(2, unknownText(maxUnknown/2+1))...), faultUnknown},
		{"unknown, small ones", &queuepb.EnqueueRequest{}, times([]byte{15 << 3, 1}, 1<<19), faultUnknown},
		{"wrong type", &queuepb.EnqueueRequest{}, []byte{1 << 3, 1}, faultMalformed},
		{"cut", &queuepb.EnqueueRequest{}, []byte{1<<3 | 2, 5, 'a'}, faultMalformed},
		{"length of 2^64", &queuepb.EnqueueRequest{}, append([]byte{1<<3 | 2}, protowire.AppendVarint(nil, 1<<64-1)...), faultMalformed},
		{"length of 2^31", &queuepb.EnqueueRequest{}, append([]byte{1<<3 | 2}, protowire.AppendVarint(nil, 1<<31)...), faultMalformed},
		{"end of no group", &queuepb.EnqueueRequest{}, protowire.AppendTag(nil, 200, protowire.EndGroupType), faultMalformed},
		{"group without an end", &queuepb.EnqueueRequest{}, protowire.AppendTag(nil, 200, protowire.StartGroupType), faultMalformed},
	} {
		if got := scanOf(test.raw, test.m); got != test.want {
			t.Errorf("%s: fault %d, want %d", test.name, got, test.want)
		}
	}
}

// TestScanTakesWhatIsAllowed: the largest that the other limits allow is within the bounds of the scan.
func TestScanTakesWhatIsAllowed(t *testing.T) {
	handles := make(map[string]*queuepb.Handle)
	for i := range maxHandles {
		handles[fmt.Sprintf("handle-%d", i)] = &queuepb.Handle{Token: strings.Repeat("t", 69)}
	}
	headers := make(map[string]string)
	for i := range maxHeaders {
		headers[fmt.Sprintf("header-%d", i)] = "value"
	}
	second := &durationpb.Duration{Seconds: 1}
	full := &queuepb.EnqueueRequest{
		Queue: "q", Message: &queuepb.Message{Payload: []byte("p"), ContentType: "t", Headers: headers, Handles: handles},
		Pipe:  &queuepb.PipeOptions{Timeout: second, DisconnectGrace: second, Retain: second, Parent: &queuepb.Handle{Token: "t"}},
		Delay: second, Expiry: second, Group: "g", IdempotencyKey: "k",
	}
	small := &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{}, Pipe: &queuepb.PipeOptions{Timeout: second}, Expiry: second}
	for name, m := range map[string]pb.Message{
		"message":     full,
		"small batch": &queuepb.EnqueueBatchRequest{Items: repeated(small, maxBatchItems)},
		"full batch":  &queuepb.EnqueueBatchRequest{Items: repeated(full, 600)},
		"settle":      &queuepb.SettleRequest{Messages: repeated(full, maxSettleItems), Replies: repeated(&queuepb.ReplyRequest{Handles: handles}, maxSettleItems)},
		"leases":      &queuepb.ConsumeRequest{HeldLeases: repeated(&queuepb.Handle{Token: strings.Repeat("t", 69)}, maxInFlight)},
		"ids":         &queuepb.DeleteMessagesRequest{MessageIds: repeated("0123456789abcdef", maxMessageIDs)},
	} {
		if raw := mustMarshal(t, m); scanOf(raw, m) != faultNone {
			t.Errorf("%s of %d bytes: refused", name, len(raw))
		}
	}
}

func repeated[T any](v T, n int) (all []T) {
	for range n {
		all = append(all, v)
	}
	return all
}

// TestFrameFaults: what is wrong with a frame, or with an operation of it, ends the session with its own reason.
func TestFrameFaults(t *testing.T) {
	operation := func(inside []byte) []byte {
		return protowire.AppendBytes([]byte{2<<3 | 2}, append([]byte{1 << 3, 1}, inside...))
	}
	enqueue := func(inside []byte) []byte {
		return operation(protowire.AppendBytes([]byte{2<<3 | 2}, inside))
	}
	batch := func(items int) []byte {
		return operation(protowire.AppendBytes([]byte{14<<3 | 2}, bytes.Repeat([]byte{1<<3 | 2, 0}, items)))
	}
	for _, test := range []struct {
		name string
		raw  []byte
		want broker.Reason
	}{
		{"unknown fields of the frame", unknownText(maxUnknown + 1), reasonUnknownFieldsTooLarge},
		{"unknown fields of an operation", operation(unknownText(maxUnknown + 1)), reasonUnknownFieldsTooLarge},
		{"unknown fields of a request", enqueue(unknownText(maxUnknown + 1)), reasonUnknownFieldsTooLarge},
		{"unknown fields in all", bytes.Repeat(enqueue(unknownText(maxUnknown/4)), 5), reasonUnknownFieldsTooLarge},
		{"unknown fields of a credit", protowire.AppendBytes([]byte{3<<3 | 2}, unknownText(maxUnknown+1)), reasonUnknownFieldsTooLarge},
		{"unknown fields of hello", protowire.AppendBytes([]byte{1<<3 | 2}, unknownText(maxUnknown+1)), reasonUnknownFieldsTooLarge},
		{"nesting of the frame", nest(20_000), reasonNestingTooDeep},
		{"nesting of an operation", operation(nest(20_000)), reasonNestingTooDeep},
		{"nesting of a request", enqueue(nest(33)), reasonNestingTooDeep},
		{"parts of an operation", batch(3000), reasonTooManyElements},
		{"parts of many operations", bytes.Repeat(batch(500), 4), reasonTooManyElements},
		{"operations", bytes.Repeat([]byte{2<<3 | 2, 0}, 1<<19), reasonTooManyElements},
		{"operations over the window", bytes.Repeat(operation([]byte{13<<3 | 2, 0}), maxWindow+1), reasonWindowExceeded},
		{"a full window", bytes.Repeat(operation([]byte{13<<3 | 2, 0}), maxWindow), ""},
		{"a full window of small pipes", bytes.Repeat(operation(protowire.AppendBytes([]byte{9<<3 | 2},
			mustMarshal(t, &queuepb.OpenPipeRequest{Pipe: &queuepb.PipeOptions{Timeout: &durationpb.Duration{Seconds: 1}}}))), maxWindow), ""},
		{"garbage in an operation", operation([]byte{2<<3 | 2, 1, 0xff}), reasonFrameMalformed},
	} {
		err := decodeFrame(test.raw)
		var refused *broker.Error
		if errors.As(err, &refused); refused == nil && (err != nil || test.want != "") || refused != nil && refused.Reason != test.want {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// decodeFrame takes a frame apart and decodes its operations, one after the other as a session does.
func decodeFrame(raw []byte) error {
	in := &inFrame{buf: mem.SliceBuffer(raw)}
	if err := in.parse(); err != nil {
		return err
	}
	d := requestDecoder{scan: in.scan}
	for i := range in.operations {
		if _, _, err := d.decode(&in.operations[i]); err != nil {
			return err
		}
	}
	return nil
}

// allocated is how many bytes f allocates.
func allocated(f func()) int {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// TestScanBoundsHeap: whatever a message has, and whether it is refused or not, decoding it takes at most four times its
// bytes (its own copy among them) and scanHeapBase. Each field of each message is tried, as small as it can be and as
// often as fits, with as many bytes beside as make the elements allowed.
func TestScanBoundsHeap(t *testing.T) {
	c := newCodec(limits{frame: 4 << 20}, &buffers.Pool{})
	taken, worst := 0, 0.0
	for typ, sh := range shapes {
		m, ok := reflect.New(typ.Elem()).Interface().(generated)
		if !ok {
			t.Fatalf("%v is not generated", typ)
		}
		for num := range sh.fields {
			for _, padding := range []int{0, 6, 14, 40} {
				raw := bomb(sh, protowire.Number(num), padding)
				if raw == nil {
					continue
				}
				got := allocated(func() {
					if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, m); err != nil {
						t.Fatal(err)
					}
				})
				if faultOf(m) == faultNone {
					taken++
				}
				m.Reset()
				if most := 4*len(raw) + scanHeapBase; got > most {
					t.Errorf("%v, field %d, padding %d: %d bytes on the wire, %d of heap, want at most %d",
						typ, num, padding, len(raw), got, most)
				}
				worst = max(worst, float64(got)/float64(len(raw)))
			}
		}
	}
	t.Logf("%d of the messages were taken; at worst decoding took %.1f times a message's bytes", taken, worst)
	if taken < 10 {
		t.Errorf("%d messages were taken, so hardly any was decoded", taken)
	}
	for _, raw := range [][]byte{
		bytes.Repeat([]byte{2<<3 | 2, 0}, 1<<19), bytes.Repeat([]byte{3<<3 | 2, 0}, 1<<19),
		bytes.Repeat([]byte{3<<3 | 2, 6, 1 << 3, 0, 2 << 3, 0, 3 << 3, 0}, 1<<16), bytes.Repeat([]byte{4 << 3, 1}, 1<<19),
		protowire.AppendBytes([]byte{4<<3 | 2}, make([]byte, 1<<16)), unknownText(1 << 20), nest(1 << 18),
	} {
		got := allocated(func() { _ = decodeFrame(raw) }) // refused or not
		if most := 4*len(raw) + scanHeapBase; got > most {
			t.Errorf("frame %x...: %d bytes on the wire, %d of heap, want at most %d", raw[:8], len(raw), got, most)
		}
	}
}

// bomb is about a MiB of one field, each with an inside that begins so many bytes of padding: an unknown field does for
// messages, up to what is allowed. It is nil if there is no such field, or if it is a number, which takes no heap.
func bomb(sh *shape, num protowire.Number, padding int) []byte {
	field := sh.field(num)
	if field == nil || field.wire != protowire.BytesType {
		return nil
	}
	inside := make([]byte, padding)
	if field.message != nil {
		if inside = pad(field.message, padding); inside == nil {
			return nil
		}
	}
	one := protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), inside)
	return bytes.Repeat(one, min(1<<20/len(one), maxElements))
}

// pad is the first text of a message with so many bytes, or nothing.
func pad(sh *shape, padding int) []byte {
	if padding == 0 {
		return []byte{}
	}
	for num := range sh.fields {
		if f := &sh.fields[num]; f.known && f.wire == protowire.BytesType {
			inside := make([]byte, padding-2)
			if f.message != nil {
				return nil
			}
			return protowire.AppendBytes(protowire.AppendTag(nil, protowire.Number(num), protowire.BytesType), inside)
		}
	}
	return nil
}

// FuzzScan: what the scan calls malformed is malformed, and what it lets pass takes no more heap than it says. The first
// byte chooses the type of message.
func FuzzScan(f *testing.F) {
	var types []reflect.Type
	for i := range queuepb.File_api_queue_proto.Messages().Len() {
		t, err := protoregistry.GlobalTypes.FindMessageByName(queuepb.File_api_queue_proto.Messages().Get(i).FullName())
		if err != nil {
			f.Fatal(err)
		}
		types = append(types, reflect.TypeOf(t.Zero().Interface()))
	}
	for i, typ := range types {
		for num := range shapes[typ].fields {
			if b := bomb(shapes[typ], protowire.Number(num), 4); b != nil {
				f.Add(append([]byte{byte(i)}, b[:min(len(b), 300)]...))
			}
		}
		f.Add(append([]byte{byte(i)}, nest(33)...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 {
			return
		}
		typ := types[int(raw[0])%len(types)]
		raw = raw[1:]
		m, ok := reflect.New(typ.Elem()).Interface().(generated)
		if !ok {
			t.Fatalf("%v is not generated", typ)
		}
		s := newScan(len(raw), 0)
		wrong := s.message(raw, shapes[typ], 1)
		if wrong == faultMalformed && m.UnmarshalVTUnsafe(raw) == nil {
			if pb.Unmarshal(raw, m.ProtoReflect().New().Interface()) == nil {
				t.Errorf("%x is a %v, the scan says that it is malformed", raw, typ)
			}
		}
		if wrong != faultNone {
			return
		}
		var err error
		if got := allocated(func() { err = m.UnmarshalVTUnsafe(raw) }); got > s.heap+1024 && err == nil {
			t.Errorf("%x as a %v: %d bytes of heap, the scan said %d", raw, typ, got, s.heap)
		}
	})
}

// BenchmarkScan is the scan of a message that is decoded by the generated code.
func BenchmarkScan(b *testing.B) {
	m := &queuepb.EnqueueRequest{Queue: "orders", Message: &queuepb.Message{
		Payload: make([]byte, 128), ContentType: "text/plain", Headers: map[string]string{"a": "1", "b": "2"},
	}}
	raw := mustMarshal(b, m)
	b.ReportAllocs()
	for b.Loop() {
		if scanOf(raw, m) != faultNone {
			b.Fatal("refused")
		}
	}
}
