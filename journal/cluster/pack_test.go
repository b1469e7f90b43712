package cluster

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
)

func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// What is encoded is decoded, and compressed where that pays.
func TestPack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		batch  []byte
		packs  bool
		packed bool
	}{
		"nothing":          {nil, true, false},
		"short":            {make([]byte, leastPacked-1), true, false},
		"long enough":      {make([]byte, leastPacked), true, true},
		"a whole part":     {bytes.Repeat([]byte("order 4711 "), mostPart/11), true, true},
		"noise":            {noise(leastPacked), true, false},
		"a part of noise":  {noise(mostPart), true, false},
		"nearly all noise": {append(noise(leastPacked), make([]byte, leastPacked/10)...), true, false},
		"not to be packed": {make([]byte, leastPacked), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := header{kind: batchKind, epoch: 7, number: 3, position: 12, node: "a"}
			m := h.encode(make([]byte, 100), 5, test.batch, test.packs)
			got, content, err := decode(5, m)
			if err != nil {
				t.Fatal(err)
			}
			if got.packed != test.packed {
				t.Errorf("packed: %v, want %v", got.packed, test.packed)
			}
			if shorter := len(m) <= fixed+1+len(test.batch)*7/8; test.packed && !shorter || len(m) > fixed+1+len(test.batch) {
				t.Errorf("a batch of %d bytes takes %d", len(test.batch), len(m))
			}
			if got.packed {
				if content, err = unpack(nil, content); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(content, test.batch) {
				t.Errorf("%d bytes were encoded, and %d others decoded", len(test.batch), len(content))
			}
			if got.packed = false; got != h {
				t.Errorf("decode: %+v, want %+v", got, h)
			}
		})
	}
}

// Memory is used again, and no message before shows.
func TestPackIntoOldMemory(t *testing.T) {
	t.Parallel()
	h := header{kind: batchKind, node: "a"}
	long := h.encode(nil, 1, noise(64<<10), true)
	short := h.encode(long, 1, make([]byte, 32<<10), true)
	if &long[0] != &short[0] {
		t.Error("the memory of a longer message was not used")
	}
	_, content, err := decode(1, short)
	if err != nil {
		t.Fatal(err)
	}
	memory := noise(64 << 10)
	batch, err := unpack(memory, content)
	if err != nil || !bytes.Equal(batch, make([]byte, 32<<10)) {
		t.Errorf("unpack = %d bytes, %v, want 32 KiB of zeros", len(batch), err)
	}
	if &batch[0] != &memory[0] {
		t.Error("the memory of a longer batch was not used")
	}
}

// What is not what was packed, or has more than a part may have, is damage.
func TestUnpackDamage(t *testing.T) {
	t.Parallel()
	good := s2.Encode(nil, make([]byte, leastPacked))
	for name, packed := range map[string][]byte{
		"nothing":       nil,
		"cut":           good[:len(good)-1],
		"no length":     bytes.Repeat([]byte{0xff}, 20),
		"too long":      s2.Encode(nil, make([]byte, mostPart+1)),
		"says too much": append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, good...),
	} {
		if batch, err := unpack(nil, packed); !errors.Is(err, errDamaged) {
			t.Errorf("%s: unpack = %d bytes, %v, want errDamaged", name, len(batch), err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(s2.Encode(nil, noise(leastPacked)))
	f.Add(s2.Encode(nil, make([]byte, mostPart)))
	f.Fuzz(func(t *testing.T, packed []byte) {
		if batch, err := unpack(nil, packed); err == nil && len(batch) > mostPart {
			t.Errorf("unpack returned %d bytes", len(batch))
		}
	})
}
