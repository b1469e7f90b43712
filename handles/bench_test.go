package handles_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/replyq/replyq/handles"
)

func BenchmarkMint(b *testing.B) {
	ring := newRing(b)
	c := claims(handles.Send)
	b.ReportAllocs()
	for b.Loop() {
		c.Nonce++
		ring.Mint(c)
	}
}

func BenchmarkVerify(b *testing.B) {
	ring := newRing(b)
	h := ring.Mint(claims(handles.Send))
	b.ReportAllocs()
	for b.Loop() {
		if err := ring.Verify(h, 4242, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyParallel(b *testing.B) {
	ring := newRing(b)
	h := ring.Mint(claims(handles.Send))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := ring.Verify(h, 4242, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkVerifyGarbage forges for a tenant whose key is at hand, for one whose key has to be
// derived each time, and for a key id that nobody has.
func BenchmarkVerifyGarbage(b *testing.B) {
	ring := newRing(b)
	forge := func(tenant uint32, keyID byte) handles.Handle {
		c := claims(handles.Send)
		c.Tenant = tenant
		bin, _ := newRing(b).Mint(c).MarshalBinary()
		bin[1], bin[47] = keyID, bin[47]^1
		h, err := handles.ParseBytes(bin)
		if err != nil {
			b.Fatal(err)
		}
		return h
	}
	ring.Mint(claims(handles.Send))
	for name, h := range map[string]handles.Handle{
		"tenant-known":   forge(4242, 3),
		"tenant-unknown": forge(7, 3),
		"key-unknown":    forge(4242, 4),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ring.Verify(h, 4242, now) == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := newRing(b).Mint(claims(handles.Send)).Text()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := handles.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendText(b *testing.B) {
	h := newRing(b).Mint(claims(handles.Send))
	buf := make([]byte, 0, handles.TextSize)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = h.AppendText(buf[:0])
	}
}

func BenchmarkScan(b *testing.B) {
	h := newRing(b).Mint(claims(handles.Send)).Text()
	payloads := map[string][]byte{
		"prose":    bytes.Repeat([]byte("a quick request, quietly asked; "), 2048),
		"all-q":    bytes.Repeat([]byte("q"), 65536),
		"one":      []byte(strings.Repeat("x", 32768) + h + strings.Repeat("x", 32768)),
		"prefixes": bytes.Repeat([]byte("qh1s_"), 65536/5),
		"hostile":  bytes.Repeat([]byte(h[:15]), 65536/15),
	}
	for name, payload := range payloads {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				handles.Scan(payload, func(handles.Handle) {})
			}
		})
	}
}
