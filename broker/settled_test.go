package broker

import (
	"testing"

	"github.com/replyq/replyq/broker/factpb"
)

// TestSettledOftenAndForgotten: what a journal tells more than once, and is forgotten by its end, takes nothing along.
func TestSettledOftenAndForgotten(t *testing.T) {
	var l settledLeases
	keep := func(nonce uint64, at Time) {
		l.applyKept(&factpb.SettledKept{
			Nonces: []uint64{nonce}, Attempts: []uint32{1}, Actions: []uint32{0}, Dead: []bool{false}, At: []int64{int64(at)},
		})
	}
	for range 5 {
		keep(1, 1)
	}
	for nonce := range uint64(5) {
		keep(10+nonce, 2+settledKept)
	}
	l.add(settledLease{nonce: 15, attempt: 1, at: 2 + settledKept}, true)
	l.sort()
	for nonce := range uint64(6) {
		if !l.knows(10 + nonce) {
			t.Errorf("lease %d is not known", nonce)
		}
	}
	if l.knows(1) {
		t.Error("a lease is known that was settled long ago")
	}
}
