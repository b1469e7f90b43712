package cluster

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
)

// leastPacked is the shortest batch that is compressed. A shorter one costs all servers the same either way.
const leastPacked = 4 << 10

// pack appends a batch to a message, compressed if that makes it shorter by an eighth at least, and says whether it did.
func pack(m, batch []byte) (_ []byte, packed bool) {
	if len(batch) < leastPacked {
		return append(m, batch...), false
	}
	m = slices.Grow(m, s2.MaxEncodedLen(len(batch)))
	if p := s2.Encode(m[len(m):cap(m)], batch); len(p) <= len(batch)-len(batch)/8 {
		return m[:len(m)+len(p)], true
	}
	return append(m, batch...), false
}

// unpack returns what was packed, in memory if there is room. A message is not believed if it has more than one may have.
func unpack(memory, packed []byte) ([]byte, error) {
	switch n, err := s2.DecodedLen(packed); {
	case err != nil:
		return nil, fmt.Errorf("compressed batch: %w: %w", errDamaged, err)
	case n > mostPart:
		return nil, fmt.Errorf("compressed batch of %d bytes: %w", n, errDamaged)
	}
	batch, err := s2.Decode(memory[:cap(memory)], packed)
	if err != nil {
		return nil, fmt.Errorf("compressed batch: %w: %w", errDamaged, err)
	}
	return batch, nil
}
