package client

import (
	"context"
	"runtime"
	"time"

	"google.golang.org/grpc"
)

const (
	// inlineOutstanding is up to how many operations may be under way for a caller to send by itself: with more, the
	// next frame is better left to the writer, which collects.
	inlineOutstanding = 2
	// inlineBytes keeps callers from sending what could block for want of flow control.
	inlineBytes = 16 << 10
)

// stream is one stream of a link.
type stream struct {
	grpc.ClientStream
	ctx        context.Context
	cancel     context.CancelFunc
	wake       chan struct{} // holds one
	replicated bool          // there are other replicas to go to
	away       bool          // the server is going away; guarded by link.mu
	awaySince  time.Time     // since when; likewise
	left       bool          // the link moves on: nothing more is sent or accepted; guarded by link.mu
	volatile   bool          // it keeps no journal
}

// sendLocked has what is to be sent, sent, and gives the lock back. With inline the caller itself may do so.
func (l *link) sendLocked(inline bool) {
	s := l.stream
	switch {
	case s == nil:
		l.startLocked()
		l.mu.Unlock()
	case l.sending || l.woken || l.corked: // whoever is at it looks again afterwards
		l.mu.Unlock()
	case inline && l.young.n <= inlineOutstanding && l.gatherLocked(s):
		l.sending = true
		l.mu.Unlock()
		if l.send(s) {
			l.wakeWriter(s)
		}
	default:
		l.woken = true
		l.mu.Unlock()
		s.wake <- struct{}{} // has room: woken says whether something is in it
	}
}

// handedOut ends what accept began. It lets operations be sent again: while the results of a large frame are handed out the
// link is corked, since those who get them are about to ask for more, and all of that shares a frame. Without it, the first
// of them would have the writer send what little there is by then, on another processor. It tells whether the link moves on.
func (l *link) handedOut(s *stream) (left bool) {
	l.mu.Lock()
	corked := l.corked
	l.handing, l.corked = false, false
	s.left = s.left || l.isDoneLocked(s)
	// What was held back for a server that goes away may be sent now that there is a delivery.
	if s.left || !corked && !s.away || !l.waitingLocked() {
		left = s.left
		l.mu.Unlock()
		return left
	}
	l.sendLocked(false)
	return false
}

// hurry has the server send what it may hold back of the answers to patient operations. (It answers a ping at once, and
// sends what it has before that.)
func (l *link) hurry() {
	l.mu.Lock()
	l.hurried = true
	l.sendLocked(false)
}

// waitingLocked tells whether there is something that waits to be sent.
func (l *link) waitingLocked() bool {
	return l.queue.n > 0 || len(l.again) > 0 || len(l.credits) > 0 || len(l.detach) > 0 || l.confirmNow || l.hurried ||
		l.owed >= sessionCredit/4 || l.received-l.toldReceived >= confirmEvery
}

func (l *link) wakeWriter(s *stream) {
	l.mu.Lock()
	if l.stream != s || l.sending || l.woken {
		l.mu.Unlock()
		return
	}
	l.woken = true
	l.mu.Unlock()
	s.wake <- struct{}{}
}

// write sends what gathers, until the stream ends.
func (l *link) write(s *stream) {
	for {
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
		l.mu.Lock()
		busy := l.young.n > inlineOutstanding
		l.mu.Unlock()
		if busy {
			runtime.Gosched() // others are about to submit: their operations share the frame
		}
		l.mu.Lock()
		l.woken = false
		for l.stream == s && !l.sending && l.gatherLocked(s) {
			l.sending = true
			l.mu.Unlock()
			l.send(s)
			l.mu.Lock()
		}
		l.mu.Unlock()
	}
}

// send encodes and sends what was gathered, and tells whether more has come since. Only whoever set sending calls it.
func (l *link) send(s *stream) (more bool) {
	out := l.frame.encode(&l.client.buffers)
	l.frame.reset()
	err := s.SendMsg(out)
	if err != nil {
		s.cancel() // run learns the reason from its own end of the stream
	}
	l.mu.Lock()
	l.sending = false
	more = l.queue.n > 0 || len(l.again) > 0 || len(l.credits) > 0 || len(l.detach) > 0 || l.hurried
	if l.stream != s {
		l.idle.Broadcast()
	}
	l.mu.Unlock()
	return more && err == nil
}

// gatherLocked moves what may be sent now into the frame, and tells whether there is any.
func (l *link) gatherLocked(s *stream) bool {
	if s.left {
		return false
	}
	f := &l.frame
	size, limit := 0, min(frameTarget, l.maxFrame-256)
	fits := func(op *operation) bool {
		size += maxOperationOverhead + len(op.body)
		return len(f.operations) == 0 || len(f.operations) < maxFrameOperations && size <= limit
	}
	for len(l.again) > 0 && fits(l.again[0]) {
		if op := l.again[0]; op.state == opSent {
			f.operations = append(f.operations, op)
		}
		l.again = l.again[1:]
	}
	if len(l.again) == 0 {
		l.gatherQueueLocked(s, fits)
	}
	f.credits, l.credits = append(f.credits, l.credits...), l.credits[:0]
	f.detach, l.detach = append(f.detach, l.detach...), l.detach[:0]
	if l.owed >= sessionCredit/4 {
		f.creditBytes, l.owed = l.owed, 0
	}
	f.ping, l.hurried = l.hurried, false
	due := l.confirmNow || l.received-l.toldReceived >= confirmEvery
	if f.empty() && !due {
		return false
	}
	l.confirmNow = false
	if l.received != l.toldReceived {
		f.received, l.toldReceived = l.received, l.received
	}
	low := l.lastID + 1
	if l.unanswered.first != nil {
		low = l.unanswered.first.id
	}
	if low != l.toldBelow {
		f.answeredBelow, l.toldBelow = low, low
	}
	return true
}

// gatherQueueLocked gives operations of the queue their ids, so that ids rise in the order of sending.
func (l *link) gatherQueueLocked(s *stream, fits func(*operation) bool) {
	for op := l.queue.first; op != nil && l.unanswered.n < l.window; {
		next := op.next
		if l.maySend(s, op.kind) {
			if !fits(op) {
				return
			}
			l.queue.remove(op)
			l.lastID++
			op.id, op.state = l.lastID, opSent
			l.unanswered.push(op)
			*l.ops.Put(op.id) = op
			l.frame.operations = append(l.frame.operations, op)
		}
		op = next
	}
}

// maySend tells whether an operation may be sent to a server that may be going away. A replica gets everything while deliveries
// are held that keep the link there, since their handlers may wait for it; but no consumers, which would get more of them.
func (l *link) maySend(s *stream, k opKind) bool {
	return !s.away || k.finishes() || s.replicated && k != opConsume && l.holds(s)
}

// The server keeps a pipe that has ended until it knows that the end has arrived. It learns so with any frame, or by
// itself when so many results or so much time have passed.
const (
	confirmEvery = 1000
	confirmAfter = time.Second
)

// confirm tells the server what has arrived, if no frame did.
func (l *link) confirm() {
	l.mu.Lock()
	l.confirming = nil
	if l.closed || l.stream == nil || l.received == l.toldReceived {
		l.mu.Unlock()
		return
	}
	l.confirmNow = true
	l.sendLocked(false)
}
