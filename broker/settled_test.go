package broker

import (
	"testing"

	"github.com/replyq/replyq/broker/factpb"
)

// TestSettledOftenAndForgotten: what a journal tells more than once, and is forgotten by its end, takes nothing along.
func TestSettledOftenAndForgotten(t *testing.T) {
	var l settledLeases
	for range 5 {
		l.applyKept(&factpb.SettledKept{Nonces: []uint64{1}, Attempts: []uint32{1}, Actions: []uint32{0}, Dead: []bool{false}, At: []int64{1}})
	}
	for nonce := range uint64(6) {
		l.add(settledLease{nonce: 10 + nonce, attempt: 1, at: 2 + settledKept}, true)
	}
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
