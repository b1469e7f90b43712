package disk

import (
	"bytes"
	"testing"

	"github.com/replyq/replyq/journal"
)

// FuzzDecodeBatch decodes anything: it is refused, or it is exactly what encodes to the same.
func FuzzDecodeBatch(f *testing.F) {
	key := batchKey(3, 7)
	good := make([]byte, headerSize+4)
	encodeBatch(good, batchFormat, key[:], []byte("abcd"))
	f.Add(uint16(3), uint64(7), good)
	f.Add(uint16(3), uint64(8), good)
	f.Add(uint16(0), uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, shard uint16, p uint64, value []byte) {
		key := batchKey(shard, journal.Position(p))
		if s, q, ok := parseBatchKey(key[:]); !ok || s != shard || uint64(q) != p {
			t.Fatalf("key of %d, %d parses as %d, %d, %v", shard, p, s, q, ok)
		}
		batch, err := decodeBatch(key[:], value)
		if err != nil {
			return
		}
		again := make([]byte, headerSize+len(batch))
		encodeBatch(again, value[0], key[:], batch)
		if !bytes.Equal(again, value) {
			t.Errorf("%x decodes to %x, which encodes to %x", value, batch, again)
		}
	})
}

// TestEveryBit flips each bit of a batch and of its key.
func TestEveryBit(t *testing.T) {
	key := batchKey(1, 300)
	value := make([]byte, headerSize+9)
	encodeBatch(value, batchFormat, key[:], []byte("some text"))
	whole := append(key[:], value...)
	for bit := range 8 * len(whole) {
		flipped := bytes.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		if batch, err := decodeBatch(flipped[:batchKeySize], flipped[batchKeySize:]); err == nil {
			t.Errorf("bit %d flipped: decoded to %q", bit, batch)
		}
	}
}

// FuzzTraceLog looks for traces in anything, and must neither crash nor hang.
func FuzzTraceLog(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01\x00\x05\x07\x00\x00\x00x"), uint32(7))
	f.Fuzz(func(_ *testing.T, log []byte, number uint32) {
		traceLog(log, number, make(marks, 2))
	})
}
