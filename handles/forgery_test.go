package handles_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/replyq/replyq/handles"
)

func TestP15EveryBitCounts(t *testing.T) {
	ring := newRing(t)
	for _, kind := range kinds() {
		h := ring.Mint(claims(kind))
		wantVerify(t, ring, h, nil)
		refused := 0
		for bit := range handles.Size * 8 {
			b, _ := h.MarshalBinary()
			b[bit/8] ^= 0x80 >> (bit % 8)
			if err := verifyBytes(ring, b); !errors.Is(err, handles.ErrInvalid) {
				t.Errorf("%v handle with bit %d flipped: %v, want %v", kind, bit, err, handles.ErrInvalid)
				continue
			}
			refused++
		}
		if refused != 384 {
			t.Errorf("%d of 384 changes to a %v handle refused", refused, kind)
		}
	}
}

// verifyBytes does what a server does with a token, for the tenant that it names.
func verifyBytes(ring *handles.KeyRing, b []byte) error {
	h, err := handles.ParseBytes(b)
	if err != nil {
		return err
	}
	return ring.Verify(h, h.Tenant(), now)
}

// TestP15Forgery tries random tokens, and tokens spliced from the fields of two genuine ones.
func TestP15Forgery(t *testing.T) {
	const tries = 2_000_000
	source := rand.NewChaCha8([32]byte{1, 2}) // fixed: a failure repeats
	rnd := rand.New(source)
	random := func(b []byte) { _, _ = source.Read(b) } // never fails
	ring := newRing(t)
	genuine := make([][]byte, 1000)
	for i := range genuine {
		genuine[i], _ = ring.Mint(handles.Claims{
			Kind:    handles.Kind(1 + rnd.IntN(3)),
			Tenant:  1 + rnd.Uint32N(3),
			Shard:   uint16(rnd.Uint32N(4)),
			Attempt: uint16(rnd.Uint32N(4)),
			Store:   rnd.Uint32N(4),
			Slot:    rnd.Uint32N(1000),
			Nonce:   rnd.Uint64(),
			Expires: now.Unix() + 1 + rnd.Int64N(1000),
		}).MarshalBinary()
	}
	pick := func() []byte { return genuine[rnd.IntN(len(genuine))] }
	fields := [][2]int{{0, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 10}, {10, 12}, {12, 16}, {16, 20}, {20, 28}, {28, 32}, {32, 40}, {40, 48}}
	forgers := map[string]func() []byte{
		"random": func() []byte {
			b := make([]byte, handles.Size)
			random(b)
			return b
		},
		"random in good form": func() []byte {
			b := bytes.Clone(pick())
			if rnd.IntN(10) == 0 { // a tenant that was never seen has a key that must be derived
				random(b[4:8])
			}
			random(b[8:10])
			random(b[12:])
			return b
		},
		"random tag": func() []byte {
			b := bytes.Clone(pick())
			random(b[32:])
			return b
		},
		"spliced": func() []byte {
			for {
				a, b := pick(), pick()
				c := bytes.Clone(a)
				which := rnd.Uint32()
				for i, f := range fields {
					if which>>i&1 == 0 {
						copy(c[f[0]:f[1]], b[f[0]:f[1]])
					}
				}
				if string(c) != string(a) && string(c) != string(b) {
					return c
				}
			}
		},
	}
	for name, forge := range forgers {
		t.Run(name, func(t *testing.T) {
			wellFormed := 0
			for range tries / len(forgers) {
				b := forge()
				if _, err := handles.ParseBytes(b); err == nil {
					wellFormed++
				}
				if err := verifyBytes(ring, b); !errors.Is(err, handles.ErrInvalid) {
					t.Fatalf("Verify of forged %x = %v, want %v", b, err, handles.ErrInvalid)
				}
			}
			if name != "random" && wellFormed < tries/len(forgers)/2 {
				t.Errorf("only %d of %d were well formed: the test tests little", wellFormed, tries/len(forgers))
			}
		})
	}
}
