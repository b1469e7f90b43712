package main

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A slot is one request in flight at a time. It belongs to one goroutine at a time.
type slot struct {
	load     *load
	number   int
	request  []byte
	sequence uint64
	first    uint64 // the sequence before this load
	started  time.Duration
	ended    time.Duration
	took     []uint32 // in nanoseconds, of this load's requests

	parts parts // the answers due, where one request has many

	// Where a request is dealt out in pieces: the one that is being sent, while answers to earlier ones may come already,
	// and those that were answered.
	sending []byte
	seen    []bool
}

// newSlots makes the slots of a shape.
func newSlots(sh shape) []*slot {
	slots := make([]*slot, sh.InFlight)
	for i := range slots {
		slots[i] = &slot{
			number: i, request: newRequest(uint64(i), sh.requestBytes()), //nolint:gosec // small
			parts: newParts(sh.Payload), sending: make([]byte, sh.requestBytes()), seen: make([]bool, sh.answers()),
		}
		if sh.Text {
			fillText(slots[i].request, uint64(i)) //nolint:gosec // small
		}
	}
	return slots
}

func (s *slot) begin(l *load) {
	s.load, s.took = l, s.took[:0]
	s.started, s.ended, s.first = 0, 0, s.sequence
}

// next is the slot's next request, which it keeps.
func (s *slot) next() []byte {
	s.sequence++
	binary.LittleEndian.PutUint64(s.request[sequenceAt:], s.sequence)
	return s.request
}

// check compares the one answer with the request.
func (s *slot) check(answer []byte) error { return checkAnswer(s.request, answer) }

// finish takes note of an answered request and reports whether another one is wanted. The end of one request counts as
// the beginning of the next, so that a request costs one look at the clock.
func (s *slot) finish() (more bool) {
	now := time.Since(s.load.began)
	s.took = append(s.took, uint32(min(now-s.started, 1<<32-1))) //nolint:gosec // bounded
	s.started, s.ended = now, now
	switch {
	case s.load.pace != nil: // which says when the next one is due, if there is one
		return true
	case now < s.load.until:
		return true
	default:
		s.load.rest()
		return false
	}
}

// expectParts makes the slot's parts the answers to its request.
func (s *slot) expectParts() error { return s.parts.to(s.request) }

// answer is check and finish, for callers that have nobody to return an error to.
func (s *slot) answer(b []byte) (more bool) {
	if err := s.check(b); err != nil {
		s.load.fail(err)
		return false
	}
	return s.finish()
}

// pieces begins a request that is dealt out in pieces.
func (s *slot) pieces() int {
	copy(s.sending, s.next())
	clear(s.seen)
	return len(s.seen)
}

// piece is one of them; it is good until the next one is asked for.
func (s *slot) piece(i int) []byte {
	setIndex(s.sending, i)
	return s.sending
}

// checkPiece takes the answer to a piece, in any order, but each only once.
func (s *slot) checkPiece(answer []byte) error {
	if len(answer) < minPayload {
		return misfit(s.request, answer)
	}
	i := indexOf(answer)
	if i >= len(s.seen) || s.seen[i] {
		return fmt.Errorf("an answer to piece %d of %d, which was answered already or is none", i, len(s.seen))
	}
	s.seen[i] = true
	setIndex(s.request, i)
	return checkAnswer(s.request, answer)
}

// traces is the sum of the traces of this load's requests.
func (s *slot) traces() uint64 {
	var sum uint64
	for n := s.first + 1; n <= s.sequence; n++ {
		sum += trace(uint64(s.number), n) //nolint:gosec // small
	}
	return sum
}
