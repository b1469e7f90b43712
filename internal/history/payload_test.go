package history

import (
	"bytes"
	"testing"
)

func TestPayload(t *testing.T) {
	id := ID{"p1", 17}
	for _, size := range []int{16, 100, 16 << 10} {
		p := Payload(id, "call", size)
		if got, do, err := Parse(p); got != id || do != "call" || err != nil {
			t.Errorf("Parse() of %d bytes = %v, %q, %v", len(p), got, do, err)
		}
		if size > 40 && len(p) != size {
			t.Errorf("Payload(%d) has %d bytes", size, len(p))
		}
		for i := 0; i < len(p); i += 1 + len(p)/400 {
			for _, flip := range []byte{1, 0x80} {
				bad := bytes.Clone(p)
				bad[i] ^= flip
				if got, do, err := Parse(bad); err == nil {
					t.Fatalf("byte %d of %d changed: Parse() = %v, %q, want an error", i, len(p), got, do)
				}
			}
		}
		for _, n := range []int{0, 3, len(p) - 1} {
			if _, _, err := Parse(p[:n]); err == nil {
				t.Errorf("Parse() of %d bytes out of %d: want an error", n, len(p))
			}
		}
	}
	if bytes.Equal(Payload(ID{"p1", 1}, "x", 90)[80:], Payload(ID{"p1", 2}, "x", 90)[80:]) {
		t.Error("two payloads have the same noise")
	}
}
