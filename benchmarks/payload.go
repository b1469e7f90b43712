package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// A payload begins with the number of its slot and a sequence number, so that an answer that is late, foreign or comes
// twice is told from the one that is due; then come a mark, and an index where a request has several parts or answers;
// the rest is filler: noise, which does not compress, unless the shape says otherwise. The worker answers with the same
// bytes but for the mark, or, where there are many answers to one request, with [parts].
const (
	sequenceAt  = 8
	markAt      = 16
	indexAt     = 20
	minPayload  = 24
	answerMark  = 0xA5
	requestMark = 0x5A
)

func newRequest(slot uint64, size int) []byte {
	b := make([]byte, size)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], slot)
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	binary.LittleEndian.PutUint64(b, slot)
	binary.LittleEndian.PutUint64(b[sequenceAt:], 0)
	b[markAt] = requestMark
	setIndex(b, 0)
	return b
}

// fillText makes a request's filler a record of an order in JSON, as often as there is room.
func fillText(b []byte, slot uint64) {
	r := rand.New(rand.NewPCG(slot, 0))
	for rest := b[minPayload:]; len(rest) > 0; {
		n := copy(rest, fmt.Sprintf(`{"order":"%016x","customer":%d,"item":"%08x","quantity":%d,"price":"%d.%02d","currency":"EUR","express":%t},`,
			r.Uint64(), r.IntN(1_000_000), r.Uint32(), 1+r.IntN(9), r.IntN(500), r.IntN(100), r.IntN(2) == 0))
		rest = rest[n:]
	}
}

func setIndex(b []byte, i int) { binary.LittleEndian.PutUint32(b[indexAt:], uint32(i)) } //nolint:gosec // small
func indexOf(b []byte) int     { return int(binary.LittleEndian.Uint32(b[indexAt:])) }

func checkRequest(request []byte) error {
	if len(request) < minPayload || request[markAt] != requestMark {
		return fmt.Errorf("the worker got %d bytes that are not a request", len(request))
	}
	return nil
}

// appendAnswer is the worker's work.
func appendAnswer(b, request []byte) ([]byte, error) {
	if err := checkRequest(request); err != nil {
		return b, err
	}
	n := len(b)
	b = append(b, request...)
	b[n+markAt] = answerMark
	return b, nil
}

// checkAnswer compares an answer with its request.
func checkAnswer(request, answer []byte) error {
	if len(answer) != len(request) || answer[markAt] != answerMark ||
		!bytes.Equal(answer[:markAt], request[:markAt]) || !bytes.Equal(answer[markAt+1:], request[markAt+1:]) {
		return misfit(request, answer)
	}
	return nil
}

// misfit says what is wrong with an answer.
func misfit(request, answer []byte) error {
	if len(answer) >= minPayload && bytes.Equal(answer[:8], request[:8]) {
		return fmt.Errorf("answer number %d.%d where %d.%d is due: a reply was lost or repeated",
			binary.LittleEndian.Uint64(answer[sequenceAt:]), indexOf(answer),
			binary.LittleEndian.Uint64(request[sequenceAt:]), indexOf(request))
	}
	return fmt.Errorf("an answer of %d bytes is not that of its request", len(answer))
}

// parts are the answers to a request that has many. They differ in their index alone, so that making and checking them
// costs little beside sending them.
type parts struct{ b []byte }

// newParts makes the answers of a size.
func newParts(size int) parts { return parts{newRequest(0, size)} }

// to makes them answers to a request.
func (p parts) to(request []byte) error {
	if err := checkRequest(request); err != nil {
		return err
	}
	copy(p.b[:markAt], request)
	p.b[markAt] = answerMark
	return nil
}

// at is the i-th answer; it is good until the next one is asked for.
func (p parts) at(i int) []byte {
	setIndex(p.b, i)
	return p.b
}

// check compares an answer with the i-th.
func (p parts) check(i int, answer []byte) error {
	if due := p.at(i); !bytes.Equal(due, answer) {
		return misfit(due, answer)
	}
	return nil
}

// trace is a number for a message of a slot, for sums that tell whether the same messages came out as went in.
func trace(slot, sequence uint64) uint64 {
	x := slot<<40 ^ sequence // splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// traceOf is the trace of a request.
func traceOf(request []byte) uint64 {
	return trace(binary.LittleEndian.Uint64(request), binary.LittleEndian.Uint64(request[sequenceAt:]))
}
