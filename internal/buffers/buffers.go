// Package buffers has the buffers that frames travel in.
package buffers

import (
	"math/bits"
	"sync"
)

// A Pool keeps buffers of sizes that are powers of two; it is a mem.BufferPool of gRPC. Unlike gRPC's own pool it does
// not clear them: what is written to a connection, or read from one, fills its buffer wholly. Clearing was a sixth of the
// cost of writing a frame in the server, and a tenth of all that a worker did. The zero Pool is ready for use, by many
// goroutines at once.
type Pool struct {
	pools [maxBufferBits + 1]sync.Pool
}

const (
	minBufferBits = 9  // 512 B
	maxBufferBits = 23 // 8 MiB, the largest message there is
)

// Get returns a buffer of a length, with whatever was in it before.
func (p *Pool) Get(length int) *[]byte {
	n := max(bits.Len(uint(max(length, 1)-1)), minBufferBits)
	if n > maxBufferBits {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.pools[n].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<n)
	return &b
}

// Put takes a buffer back that nobody uses any more.
func (p *Pool) Put(b *[]byte) {
	n := bits.Len(uint(cap(*b))) - 1
	if n < minBufferBits || n > maxBufferBits || cap(*b) != 1<<n {
		return // not from here
	}
	p.pools[n].Put(b)
}
