package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A payload begins with the number of its slot and a sequence number, so that an answer that is late, foreign or comes
// twice is told from the one that is due; the rest is filler. The worker answers with the same bytes but for one.
const (
	sequenceAt  = 8
	markAt      = 16
	answerMark  = 0xA5
	minPayload  = 24
	requestMark = 0x5A
)

func newRequest(slot uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + 3)
	}
	binary.LittleEndian.PutUint64(b, slot)
	b[markAt] = requestMark
	return b
}

// appendAnswer is the worker's work.
func appendAnswer(b, request []byte) ([]byte, error) {
	if len(request) < minPayload || request[markAt] != requestMark {
		return b, fmt.Errorf("the worker got %d bytes that are not a request", len(request))
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
		if len(answer) >= minPayload && bytes.Equal(answer[:8], request[:8]) {
			return fmt.Errorf("answer number %d where %d is due: a reply was lost or repeated",
				binary.LittleEndian.Uint64(answer[sequenceAt:]), binary.LittleEndian.Uint64(request[sequenceAt:]))
		}
		return fmt.Errorf("an answer of %d bytes is not that of its request", len(answer))
	}
	return nil
}
