package handles_test

import (
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
	const tries = 200_000
	rnd := rand.New(rand.NewPCG(1, 2)) // fixed: a failure repeats
	random := func(b []byte) {
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
	}
	ring := newRing(t)
	mint := func() []byte {
		b, _ := ring.Mint(handles.Claims{
			Kind:    handles.Kind(1 + rnd.IntN(3)),
			Tenant:  1 + rnd.Uint32N(3),
			Shard:   uint16(rnd.Uint32N(4)),
			Attempt: uint16(rnd.Uint32N(4)),
			Store:   rnd.Uint32N(4),
			Slot:    rnd.Uint32N(1000),
			Nonce:   rnd.Uint64(),
			Expires: now.Unix() + 1 + rnd.Int64N(1000),
		}).MarshalBinary()
		return b
	}
	fields := [][2]int{{0, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 10}, {10, 12}, {12, 16}, {16, 20}, {20, 28}, {28, 32}, {32, 40}, {40, 48}}
	forgers := map[string]func() []byte{
		"random": func() []byte {
			b := make([]byte, handles.Size)
			random(b)
			return b
		},
		"random in good form": func() []byte {
			b := mint()
			random(b[4:10])
			random(b[12:])
			return b
		},
		"random tag": func() []byte {
			b := mint()
			random(b[32:])
			return b
		},
		"spliced": func() []byte {
			for {
				a, b := mint(), mint()
				c := append([]byte(nil), a...)
				for _, f := range fields {
					if rnd.IntN(2) == 0 {
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
