package buffers_test

import (
	"testing"

	"github.com/replyq/replyq/internal/buffers"
)

// TestPool: what comes out has the length that was asked for, and is from here.
func TestPool(t *testing.T) {
	var p buffers.Pool
	for _, n := range []int{0, 1, 511, 512, 513, 4096, 1 << 20, 8 << 20, 8<<20 + 1} {
		for range 3 {
			b := p.Get(n)
			if len(*b) != n {
				t.Errorf("Get(%d): got %d bytes", n, len(*b))
			}
			p.Put(b)
		}
	}
	odd := make([]byte, 10, 1000)
	p.Put(&odd)
	if b := p.Get(600); cap(*b) == 1000 {
		t.Error("a buffer from elsewhere came out")
	}
}
