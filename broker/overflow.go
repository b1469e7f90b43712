package broker

import (
	"fmt"
	"time"
)

// queueFullRetry is how long a producer shall wait for room.
const queueFullRetry = 200 * time.Millisecond

// dropMost is how many messages one new message may drop. More are over only after a limit was lowered.
const dropMost = 100

// fits reports whether a message of so many bytes may wait in a queue beside what waits there. In an empty queue every
// message may.
func (q *queue) fits(size int) bool {
	n := q.live.readyN + q.live.delayedN
	if n == 0 {
		return true
	}
	c := q.config
	return (c.MaxLength == 0 || n < c.MaxLength) &&
		(c.MaxBytes == 0 || q.live.bytes-q.live.leasedBytes+uint64(size) <= c.MaxBytes)
}

func errQueueFull(q *queue) *Error {
	return &Error{
		Code: CodeResourceExhausted, Reason: ReasonQueueFull, Field: "queue", RetryAfter: queueFullRetry,
		Text: fmt.Sprintf("queue %q is full, with %d messages that wait; repeat after a while, or add consumers",
			q.name, q.live.readyN+q.live.delayedN),
	}
}

// makeRoom drops the oldest messages of a queue that is to drop them, until a new one fits.
func (s *shard) makeRoom(q *queue, size int) {
	for n := 0; n < dropMost && !q.fits(size); n++ {
		s.gone(s.oldest(q), goneBy{fate: EndDropped})
	}
}

// oldest is the message that came first of those that wait, ready or delayed. There is one.
func (s *shard) oldest(q *queue) uint32 {
	ready, delayed := s.oldestReady(q), q.live.delayed.head
	if ready == 0 || delayed != 0 && s.st.messages.at(delayed).order < s.st.messages.at(ready).order {
		return delayed
	}
	return ready
}
