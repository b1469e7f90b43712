package server

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// bufferPool keeps buffers of sizes that are powers of two. Unlike gRPC's own pool it does not clear them: what is
// written to a connection, or read from one, fills its buffer wholly. Clearing was a sixth of the cost of writing a frame
// (BenchmarkOut).
type bufferPool struct {
	pools [maxBufferBits + 1]sync.Pool
}

const (
	minBufferBits = 9  // 512 B
	maxBufferBits = 23 // 8 MiB, the largest message there is
)

var _ mem.BufferPool = (*bufferPool)(nil)

// Get implements [mem.BufferPool].
func (p *bufferPool) Get(length int) *[]byte {
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

// Put implements [mem.BufferPool].
func (p *bufferPool) Put(b *[]byte) {
	n := bits.Len(uint(cap(*b))) - 1
	if n < minBufferBits || n > maxBufferBits || cap(*b) != 1<<n {
		return // not from here
	}
	p.pools[n].Put(b)
}
