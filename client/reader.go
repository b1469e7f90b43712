package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/internal/wire"

	"github.com/replyq/replyq/api/queuepb"
)

const (
	// readerCredit is how many replies may be on their way to one reader.
	readerCredit = 256
	// grantBatch is how many replies are taken before room is given for as many, grantBytes how many bytes, and grantAfter
	// how long room is kept back at most: a reply counts as read when room was given for it, and a pipe that keeps only few
	// unread ones would wait for ever for the rest of a batch.
	grantBatch = readerCredit / 4
	grantBytes = 256 << 10
	grantAfter = 5 * time.Millisecond
)

// reader receives from one pipe: it is what a [Call] and a Receive have in common. Replies wait in it until they are
// taken. It may be taken from by one goroutine at a time.
type reader struct {
	operation
	link *link
	ctx  context.Context // of the call: when it ends, so does the reader
	// cancels: the pipe is cancelled when ctx ends. Otherwise the reader only leaves.
	cancels bool
	// lastOnly: only the last reply is asked for; those before it are dropped as they come.
	lastOnly bool
	ended    func() // called once by run when the end is there; may be nil

	mu       sync.Mutex
	receipt  []byte // a call's, encoded; nil until it has come
	handle   string // the receive handle's token; of a call known with the receipt
	next     uint64 // sequence of the next reply to come
	replies  [][]byte
	one      [1][]byte   // first memory of replies
	head     int         // replies before it were taken
	taken    int         // since room was last given
	bytes    int         // of those taken
	granting *time.Timer // gives room for them soon; nil while there is no need
	between  bool        // streams: the operation that goes on has no answer yet, and takes no credit
	done     bool
	err      error           // with done: nil if the pipe ended OK
	canceled bool            // Cancel was asked for before the receipt was there
	timeout  uint32          // of a call's pipe, in timeoutUnits; 0 if it is ctx's deadline
	unwatch  func() bool     // ends the watch of ctx
	retry    *time.Timer     // for the refusal that is waited for
	refusal  *Error          // the refusal itself
	limit    *readerLimit    // nil while it is young
	wake     chan<- struct{} // of the goroutine that waits, for
	want     want
}

// want is what a goroutine waits for in a reader.
type want uint8

const (
	wantReceipt want = iota
	wantReply
	wantEnd
)

// init makes a reader; next is the first sequence to read.
func (r *reader) init(ctx context.Context, l *link, kind opKind, next uint64) {
	r.operation = operation{sink: r, kind: kind, patient: kind == opCall, credit: readerCredit}
	r.takeBody()
	r.link, r.ctx, r.next = l, ctx, max(next, 1)
	r.replies = r.one[:0]
}

// readyLocked tells whether what is wanted is there.
func (r *reader) readyLocked(w want) bool {
	switch {
	case r.done:
		return true
	case w == wantReceipt:
		return r.receipt != nil
	case w == wantReply:
		return r.head < len(r.replies)
	default:
		return false
	}
}

// wait waits until what is wanted is there, or the reader's context ends; then the reader has ended with its error.
// It returns with the lock held.
func (r *reader) wait(w want) {
	r.mu.Lock()
	if r.readyLocked(w) {
		return
	}
	pool := &r.link.client.pools
	wake := pool.wake()
	r.wake, r.want = wake, w
	r.mu.Unlock()
	select {
	case <-wake:
		pool.wakes.Put(wake)
	case <-r.ctx.Done():
		r.contextEnded()
		// Another wake-up may be on its way through this channel, so it is not used again.
	}
	r.mu.Lock()
}

// notifyLocked wakes whoever waits, if what it wants is there.
func (r *reader) notifyLocked() {
	if r.wake != nil && r.readyLocked(r.want) {
		r.wake <- struct{}{}
		r.wake = nil
	}
}

// result implements sink.
func (r *reader) result(res *result) {
	if e := res.failure(); e != nil {
		r.refused(e)
		return
	}
	num, bytes := event(res.body)
	switch {
	case num == 1:
		r.accepted(res.kind, bytes)
	case num == 2:
		r.arrived(bytes, res.kept)
	case num == 3:
		var end queuepb.End
		if err := end.UnmarshalVT(bytes); err != nil {
			r.finish(&Error{Code: codes.Internal, Message: errMalformed.Error()})
			return
		}
		r.finish(newEndError(&end))
	case res.done:
		r.finish(&Error{Code: codes.Internal, Message: "the server ended a reader without saying why"})
	}
}

// accepted takes the receipt of a call, or the first answer of a receive.
func (r *reader) accepted(kind opKind, bytes []byte) {
	r.mu.Lock()
	r.freeBody()
	r.refusal = nil
	r.between = false
	granted := 0
	if r.taken > 0 && !r.done {
		granted = r.grantedLocked()
	}
	cancel := false
	if kind == opCall && r.receipt == nil {
		r.receipt = append(make([]byte, 0, len(bytes)), bytes...)
		cancel = r.canceled
	} else if kind == opReceive {
		r.attachedLocked(bytes)
	}
	r.notifyLocked()
	r.mu.Unlock()
	if granted > 0 {
		r.link.grant(&r.operation, granted)
	}
	if cancel {
		r.cancelPipe("")
		r.link.expectNoMore(&r.operation)
	}
}

// own copies bytes that do not belong to who gets them.
func own(bytes []byte, kept bool) []byte {
	if kept {
		return bytes
	}
	return append(make([]byte, 0, len(bytes)), bytes...)
}

// arrived keeps a reply, unless it is one that was there before the stream was lost.
func (r *reader) arrived(bytes []byte, kept bool) {
	sequence := replySequence(bytes)
	r.mu.Lock()
	if r.done || sequence < r.next {
		r.mu.Unlock()
		return
	}
	r.next = sequence + 1
	granted := 0
	if r.lastOnly && len(r.replies) > 0 {
		last := &r.replies[len(r.replies)-1]
		if kept {
			*last = bytes
		} else {
			*last = append((*last)[:0], bytes...)
		}
		granted = r.tookLocked(len(bytes))
	} else {
		r.replies = append(r.replies, own(bytes, kept))
	}
	r.notifyLocked()
	r.mu.Unlock()
	if granted > 0 {
		r.link.grant(&r.operation, granted)
	}
}

// replySequence reads only the sequence of a reply.
func replySequence(b []byte) uint64 {
	var f wire.Field
	for len(b) > 0 {
		rest, err := f.Next(b)
		if err != nil {
			return 0
		}
		if f.Num == 1 {
			return f.Number
		}
		b = rest
	}
	return 0
}

// tookLocked counts a reply as taken, and tells for how many to give room now.
func (r *reader) tookLocked(size int) (granted int) {
	r.taken++
	r.bytes += size
	switch {
	case r.done || r.between:
		return 0
	case r.taken < grantBatch && r.bytes < grantBytes:
		if r.granting == nil {
			r.granting = time.AfterFunc(grantAfter, r.grantNow)
		}
		return 0
	}
	return r.grantedLocked()
}

// grantedLocked returns for how many replies no room was given yet, and counts it as given.
func (r *reader) grantedLocked() (n int) {
	n, r.taken, r.bytes = r.taken, 0, 0
	return n
}

// grantNow gives room for what was taken and is no batch.
func (r *reader) grantNow() {
	r.mu.Lock()
	r.granting = nil
	granted := 0
	if !r.done && !r.between {
		granted = r.grantedLocked()
	}
	r.mu.Unlock()
	if granted > 0 {
		r.link.grant(&r.operation, granted)
	}
}

// take returns the next reply, after waiting for it; ok is false at the end, with the reason unless it was OK.
func (r *reader) take() (reply Reply, ok bool, err error) {
	r.wait(wantReply)
	if r.head == len(r.replies) {
		err = r.err
		r.mu.Unlock()
		return Reply{}, false, err
	}
	bytes := r.replies[r.head]
	r.replies[r.head] = nil
	r.head++
	if r.head == len(r.replies) {
		r.replies, r.head = r.replies[:0], 0
	}
	granted := r.tookLocked(len(bytes))
	r.mu.Unlock()
	if granted > 0 {
		r.link.grant(&r.operation, granted)
	}
	reply, err = decodeReply(bytes)
	return reply, err == nil, err
}

// last waits for the end and returns the last reply.
func (r *reader) last() (Reply, error) {
	r.mu.Lock()
	r.lastOnly = true
	r.mu.Unlock()
	r.wait(wantEnd)
	err, n := r.err, len(r.replies)
	var bytes []byte
	if n > 0 {
		bytes = r.replies[n-1]
	}
	r.mu.Unlock()
	switch {
	case err != nil:
		return Reply{}, err
	case n == 0:
		return Reply{}, ErrNoReply
	}
	return decodeReply(bytes)
}

// finish ends the reader and tells whether it had not ended yet. The replies that came before can still be taken.
func (r *reader) finish(err error) bool {
	r.mu.Lock()
	if r.done {
		r.mu.Unlock()
		return false
	}
	r.done, r.err = true, err
	unwatch, retry, limit, granting, ended := r.unwatch, r.retry, r.limit, r.granting, r.ended
	r.unwatch, r.retry, r.granting = nil, nil, nil
	r.notifyLocked()
	r.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	if retry != nil {
		retry.Stop()
	}
	if limit != nil {
		limit.Stop()
	}
	if granting != nil {
		granting.Stop()
	}
	if ended != nil {
		ended()
	}
	return true
}
