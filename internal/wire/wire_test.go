package wire_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/internal/wire"
)

// TestNested: the length of a nested message is right whatever was guessed, and what surrounds it stays.
func TestNested(t *testing.T) {
	for _, guess := range []int{0, 1, 127, 128, 20_000, 3_000_000} {
		for _, size := range []int{0, 1, 127, 128, 300, 16_383, 16_384, 3_000_000} {
			content := bytes.Repeat([]byte{7}, size)
			b, m := wire.Begin([]byte("before"), 20, guess)
			b = m.End(append(b, content...))
			rest, ok := bytes.CutPrefix(b, []byte("before"))
			num, typ, n := protowire.ConsumeTag(rest)
			if !ok || num != 20 || typ != protowire.BytesType {
				t.Fatalf("guess %d, size %d: tag %d, type %d", guess, size, num, typ)
			}
			got, used := protowire.ConsumeBytes(rest[n:])
			if used != len(rest)-n || !bytes.Equal(got, content) {
				t.Errorf("guess %d, size %d: %d bytes of %d read, content right: %t", guess, size, used, len(rest)-n, bytes.Equal(got, content))
			}
		}
	}
}

// TestDuration: durations read the same with the standard code, negative ones too.
func TestDuration(t *testing.T) {
	for _, d := range []time.Duration{1, time.Second, 90 * time.Minute, 1500 * time.Millisecond, -2500 * time.Millisecond} {
		var f wire.Field
		if rest, err := f.Next(wire.AppendDuration(nil, 3, d)); err != nil || len(rest) != 0 || f.Num != 3 {
			t.Fatalf("%v: field %d, rest %x, error %v", d, f.Num, rest, err)
		}
		var got durationpb.Duration
		if err := proto.Unmarshal(f.Bytes, &got); err != nil || got.AsDuration() != d {
			t.Errorf("%v reads as %v, error %v", d, got.AsDuration(), err)
		}
	}
	if b := wire.AppendDuration(nil, 3, 0); len(b) != 0 {
		t.Errorf("0 was written: %x", b)
	}
}

// TestMessage: a generated message lies in the field as the standard code writes it.
func TestMessage(t *testing.T) {
	b := wire.AppendText(nil, 1, "x")
	b = wire.AppendFlag(wire.AppendNumber(wire.AppendText(b, 2, ""), 4, 0), 5, false)
	b = wire.AppendFlag(wire.AppendNumber(b, 17, 300), 18, true)
	b = wire.AppendBytes(b, 6, nil)
	want := []byte{1<<3 | 2, 1, 'x', 0x88, 1, 0xac, 2, 0x90, 1, 1, 6<<3 | 2, 0}
	if !bytes.Equal(b, want) {
		t.Errorf("got  %x\nwant %x", b, want)
	}
}

// FuzzNext reads as protowire does, and never beyond the end.
func FuzzNext(f *testing.F) {
	f.Add([]byte{1<<3 | 2, 1, 'x', 0x88, 1, 0xac, 2})
	f.Add([]byte{0xff, 0xff})
	f.Add([]byte{2<<3 | 2, 5, 'x'})
	f.Add([]byte{1<<3 | 3, 2 << 3, 1, 1<<3 | 4, 1<<3 | 5, 1, 2, 3, 4})
	f.Add([]byte(strings.Repeat("\x0b", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		var got wire.Field
		rest, err := got.Next(b)
		num, typ, n := protowire.ConsumeTag(b)
		var number uint64
		var content []byte
		if n > 0 {
			var m int
			switch typ {
			case protowire.VarintType:
				number, m = protowire.ConsumeVarint(b[n:])
			case protowire.BytesType:
				content, m = protowire.ConsumeBytes(b[n:])
			default:
				m = protowire.ConsumeFieldValue(num, typ, b[n:])
			}
			if n += m; m < 0 {
				n = -1
			}
		}
		if (n < 0) != (err != nil) {
			t.Fatalf("error %v, protowire says %d", err, n)
		}
		if err == nil && (got.Num != num || got.Number != number || !bytes.Equal(got.Bytes, content) || len(rest) != len(b)-n) {
			t.Errorf("got %+v, %d left; want %d = %d %x, %d left", got, len(rest), num, number, content, len(b)-n)
		}
	})
}

// TestBytesEnd: who appends to the bytes of a field, short or long, does not write over what is behind them.
func TestBytesEnd(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 20_000} {
		b := wire.AppendText(wire.AppendBytes(nil, 1, make([]byte, size)), 2, "behind")
		var f wire.Field
		rest, err := f.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		_ = append(f.Bytes, "over"...)
		if _, err := f.Next(rest); err != nil || string(f.Bytes) != "behind" {
			t.Errorf("%d bytes: what is behind them is %q, error %v", size, f.Bytes, err)
		}
	}
}
