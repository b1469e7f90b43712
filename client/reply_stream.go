package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/internal/wire"
)

const (
	// replyWindow is how many replies of a stream may be on their way, and replyWindowBytes how long they may be together.
	replyWindow      = 512
	replyWindowBytes = 4 << 20
)

// ReplyStream sends many replies to a delivery's waiter, in order and without waiting for what became of each: tokens,
// rows, progress, at the pace at which they are made. It belongs to one goroutine at a time.
//
// What becomes of the replies shows in the error of a later Send, or of Flush. Whatever settles the delivery (what the
// handler returns, [Delivery.Reply], [Delivery.Settle] and so on) flushes first, so that nothing overtakes the stream's
// replies and the waiter gets all or none of an answer that ends OK.
type ReplyStream struct {
	d      *Delivery
	ctx    context.Context
	prefix []byte // of each reply

	wake chan struct{} // holds one: something has changed, for the goroutine that waits

	mu      sync.Mutex
	calm    int // replies and
	calmFor int // bytes that were sent since one was in a hurry
	under   int // replies without an outcome, refused ones included
	bytes   int // of those
	refused []*streamReply
	spare   []*streamReply // to be used again: new ones were most of what a worker allocated for a stream
	retry   *time.Timer    // for the refused ones; nil while there are none
	err     error          // why the stream has failed
}

// ReplyStream returns a stream of replies, which ends with ctx. There is one for each delivery: a second call returns the
// first one.
func (d *Delivery) ReplyStream(ctx context.Context) *ReplyStream {
	if d.stream == nil {
		d.stream = &ReplyStream{d: d, ctx: ctx, wake: make(chan struct{}, 1)}
		d.stream.prefix = appendReplyPrefix(nil, &replyRequest{to: d.replyTo, lease: d.lease, more: true})
	}
	return d.stream
}

// Send sends a reply and keeps the pipe and the delivery open. It returns at once while no more than 512 replies or 4 MiB
// are on their way, and waits for room otherwise: a pipe that is full, since its reader is slow, holds it up until there
// is room again or the stream's context ends. The error is [ErrWaiterGone] once nobody waits any more,
// [ReasonLeaseStale] if the lease was lost; errors stay. Without a reply_to nothing is sent.
func (s *ReplyStream) Send(answer Answer) error {
	if s.d.replyTo == "" {
		return nil
	}
	answer.Headers = s.d.consumer.client.headersUnder(s.ctx, answer.Headers)
	r := s.take()
	pool := &s.d.consumer.client.buffers
	large := r.takeRoom(pool, len(answer.Payload))
	r.body = appendReply(r.body, fieldOf(opReply), &replyRequest{prefix: s.prefix, answer: &answer})
	if large {
		r.lend(pool)
	}
	r.size = len(r.body)
	err := s.await(func() bool {
		if len(s.refused) > 0 || s.under >= replyWindow || s.under > 0 && s.bytes+r.size > replyWindowBytes {
			return false
		}
		s.under++
		s.bytes += r.size
		r.patient = s.patientLocked(r.size)
		return true
	})
	if err == nil {
		if err = s.d.consumer.link.submit(s.ctx, &r.operation); err != nil {
			s.mu.Lock()
			s.left(r)
			s.failLocked(err)
			s.mu.Unlock()
		}
	}
	return s.explain(err)
}

// take makes a reply that has only to be encoded.
func (s *ReplyStream) take() *streamReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r *streamReply
	if n := len(s.spare); n > 0 {
		r = s.spare[n-1]
		s.spare = s.spare[:n-1]
	} else {
		r = &streamReply{stream: s}
	}
	r.operation = operation{sink: r, kind: opReply, leased: true, body: r.body[:0]}
	return r
}

// patientLocked tells whether the answer to the next reply may wait. The window is to be open again before it is full: so
// one reply in a quarter of it is in a hurry, and takes the others along. With none, one stream brought a third less,
// for the pauses of a millisecond.
func (s *ReplyStream) patientLocked(size int) bool {
	s.calm++
	s.calmFor += size
	if s.calm < replyWindow/4 && s.calmFor < replyWindowBytes/4 {
		return true
	}
	s.calm, s.calmFor = 0, 0
	return false
}

// Flush waits until the outcome of all that was sent is known.
func (s *ReplyStream) Flush() error {
	s.mu.Lock()
	under := s.under
	s.mu.Unlock()
	if under > 0 { // what is on its way was sent patiently
		s.d.consumer.link.hurry()
	}
	return s.explain(s.await(func() bool { return s.under == 0 }))
}

// await waits until ready, which is called under the lock, or until the stream has failed.
func (s *ReplyStream) await(ready func() bool) error {
	for {
		s.mu.Lock()
		err := s.err
		ok := err == nil && ready()
		s.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			err := contextError(s.ctx, s.d.consumer.link.waitsFor("room for a reply"), OutcomeUnknown)
			s.mu.Lock()
			s.failLocked(err)
			s.mu.Unlock()
		}
	}
}

func (s *ReplyStream) explain(err error) error {
	if err == nil || errors.Is(err, ErrWaiterGone) {
		return err
	}
	return s.d.explain("reply", err)
}

// failLocked ends the stream; the first error stays.
func (s *ReplyStream) failLocked(err error) {
	if s.err == nil {
		s.err = err
	}
	for _, r := range s.refused {
		s.left(r)
	}
	s.refused = nil
	if s.retry != nil {
		s.retry.Stop()
	}
}

// left counts a reply out whose fate is known. The link knows nothing of it any more.
func (s *ReplyStream) left(r *streamReply) {
	s.under--
	s.bytes -= r.size
	if r.lent != nil {
		r.freeBody()
	}
	if cap(r.body) <= maxPooledBody {
		s.spare = append(s.spare, r)
	}
}

// streamReply is one reply on its way.
type streamReply struct {
	operation
	stream *ReplyStream
	size   int
}

// errOrder cannot happen with a server that keeps the order of a session's replies.
var errOrder = &Error{
	Code: codes.Internal, Message: "a reply was taken after an earlier one had been refused: the rest would be out of order",
}

// result implements sink.
func (r *streamReply) result(res *result) {
	s := r.stream
	failure := res.failure()
	gone := false
	s.mu.Lock()
	switch wait, again := failure.patience(); {
	case again && s.err == nil:
		s.refused = append(s.refused, r)
		if len(s.refused) == s.under { // all that was on its way has come back: now again, in the same order
			s.retry = time.AfterFunc(spread(wait), s.sendAgain)
		}
	case failure != nil:
		s.left(r)
		s.failLocked(failure)
	case len(s.refused) > 0:
		s.left(r)
		s.failLocked(errOrder)
	default:
		s.left(r)
		if gone = replyStatusOf(res.body).Gone(); gone {
			s.failLocked(ErrWaiterGone)
		}
	}
	s.mu.Unlock()
	if gone {
		s.d.end(ErrWaiterGone)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// resume implements sink.
func (*streamReply) resume(bool) []byte { return nil } // unreachable: its answer is its last result

// sendAgain sends what was refused for the moment.
func (s *ReplyStream) sendAgain() {
	s.mu.Lock()
	again := s.refused
	s.refused = nil
	s.mu.Unlock()
	for _, r := range again {
		if err := s.d.consumer.link.submitNow(&r.operation); err != nil {
			s.mu.Lock()
			s.left(r)
			s.failLocked(err)
			s.mu.Unlock()
		}
	}
}

// patience is repeatAfter for an error that may be nil.
func (e *Error) patience() (time.Duration, bool) {
	if e == nil {
		return 0, false
	}
	return e.repeatAfter()
}

// replyStatusOf reads the status of a ReplyResponse.
func replyStatusOf(b []byte) ReplyOutcome {
	var response, field wire.Field
	if len(b) == 0 {
		return ReplyOutcome{}
	}
	if _, err := response.Next(b); err != nil || response.Num != 1 {
		return ReplyOutcome{}
	}
	for b = response.Bytes; len(b) > 0; {
		rest, err := field.Next(b)
		if err != nil {
			break
		}
		if field.Num == 1 {
			return ReplyOutcome{Status: ReplyStatus(field.Number)}
		}
		b = rest
	}
	return ReplyOutcome{}
}

// flushStream waits for a delivery's stream of replies, if there is one, before the delivery is settled.
func (d *Delivery) flushStream() error {
	if d.stream == nil {
		return nil
	}
	if err := d.stream.Flush(); err != nil && !errors.Is(err, ErrWaiterGone) {
		return err
	}
	return nil
}
