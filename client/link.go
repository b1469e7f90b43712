package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/internal/optable"
)

const (
	// tickTime is how long an operation is young: it counts as under way, and nobody but its caller watches its context.
	tickTime = 100 * time.Millisecond
	// windowReserve is what callers leave of the window, for operations that cannot wait: settlements, cancellations.
	windowReserve = 64
	// The server's limits until its greeting says otherwise.
	defaultWindow     = 8192
	defaultFrameBytes = 4 << 20
	// frameTarget is where a frame is full enough; a single operation may be longer.
	frameTarget = 1 << 20
	// sessionCredit is how many bytes of replies and deliveries may be on their way.
	sessionCredit = 4 << 20
)

// link is one session with the connection it runs on. It outlives its streams: operations live in the link, and each
// new stream takes them over.
type link struct {
	client *Client
	conn   *grpc.ClientConn
	leases atomic.Int64 // deliveries that are not settled
	bound  atomic.Int64 // those of them that do not outlive the stream
	// leaving: the replica at the other end of the stream goes away. Set under mu, and read without it to see whether mu is
	// worth taking.
	leaving atomic.Bool

	mu        sync.Mutex
	idle      sync.Cond // sending went from true to false
	sessionID []byte
	running   bool // the run goroutine lives
	closed    bool

	stream  *stream // nil while there is none
	sending bool    // somebody encodes and sends frame
	woken   bool    // the writer was told that there is work
	handing bool    // results of a frame are handed out, see handedOut
	corked  bool    // nothing is sent meanwhile, see handedOut
	hurried bool    // the next frame asks for answers that the server may hold back
	frame   frame   // of whoever sends

	ops        optable.Table[*operation] // sent and not done
	queue      operations                // not sent yet
	unanswered operations                // sent, by rising id
	again      []*operation              // those of unanswered that have to be sent again
	lastID     uint64
	toldBelow  uint64

	young     operations // see operation.isYoung; linked through youngPrev and youngNext
	ticks     uint64
	ticking   *time.Timer // nil while nothing is young
	finishing int         // operations in queue or unanswered whose kind finishes, or that expect more
	flushed   chan struct{}

	window     int // unanswered operations, as the server bounds them
	maxFrame   int // bytes
	maxPayload int // bytes; 0 if the server did not say
	promised   int // places that waiters were given and have not taken
	waiters    []chan struct{}

	received     uint64      // results of this stream
	toldReceived uint64      // of which the server knows
	confirming   *time.Timer // nil while it knows of all, or will learn with the next frame soon enough
	confirmNow   bool        // a frame is due for this alone

	owed    uint64 // bytes that came and were not given back as credit
	credits []itemCredit
	detach  []uint64

	epoch   string        // of the server's last greeting
	skew    time.Duration // the server's clock less ours, then
	lostAt  time.Time     // when the last stream was lost
	lastErr error         // why there is no stream
}

func newLink(c *Client, conn *grpc.ClientConn) *link {
	l := &link{
		client: c, conn: conn, sessionID: newSessionID(),
		window: defaultWindow, maxFrame: defaultFrameBytes,
	}
	l.idle.L = &l.mu
	return l
}

func newSessionID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return id
}

// submit hands an operation to the link. It waits for room in the window, and for nothing else; the error is the
// context's or ErrClosed. The results come to op.sink.
func (l *link) submit(ctx context.Context, op *operation) error {
	l.mu.Lock()
	if l.fullLocked() && !l.closed {
		if err := l.waitForRoomLocked(ctx); err != nil {
			return err
		}
	}
	return l.submitLocked(op)
}

// submitNow is submit for those who must not wait; it uses the reserve of the window.
func (l *link) submitNow(op *operation) error {
	l.mu.Lock()
	return l.submitLocked(op)
}

func (l *link) fullLocked() bool {
	return l.queue.n+l.unanswered.n+l.promised >= l.window-min(windowReserve, l.window/4)
}

// waitForRoomLocked returns with the lock held, unless it fails.
func (l *link) waitForRoomLocked(ctx context.Context) error {
	place := make(chan struct{})
	l.waiters = append(l.waiters, place)
	what := l.waitsForLocked("room in the session's window")
	l.mu.Unlock()
	select {
	case <-place:
		l.mu.Lock()
		l.promised--
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	if i := slices.Index(l.waiters, place); i >= 0 {
		l.waiters = slices.Delete(l.waiters, i, i+1)
	} else { // it was given a place just now, which goes to the next one
		l.promised--
		l.passRoomLocked()
	}
	l.mu.Unlock()
	return contextError(ctx, what, OutcomeNotApplied)
}

// passRoomLocked gives free places to waiters.
func (l *link) passRoomLocked() {
	for len(l.waiters) > 0 && (l.closed || !l.fullLocked()) {
		close(l.waiters[0])
		l.waiters = l.waiters[1:]
		l.promised++
	}
}

// submitLocked gives the lock back.
func (l *link) submitLocked(op *operation) error {
	if l.closed {
		l.mu.Unlock()
		return closedError(OutcomeNotApplied)
	}
	if limit := l.maxFrame - maxOperationOverhead - 64; len(op.body) > limit {
		l.mu.Unlock()
		return &Error{Code: codes.InvalidArgument, Reason: ReasonFrameTooLarge, Outcome: OutcomeNotApplied,
			Message: fmt.Sprintf("the request has %d bytes, the server takes %d", len(op.body), limit)}
	}
	l.queueLocked(op)
	l.sendLocked(len(op.body) <= inlineBytes)
	return nil
}

// queueLocked puts op at the end of the queue.
func (l *link) queueLocked(op *operation) {
	op.state, op.id, op.abandoned, op.late = opQueued, 0, false, false
	l.queue.push(op)
	if op.kind.finishes() {
		l.finishing++
	}
	if op.kind != opConsume {
		l.addYoungLocked(op)
	}
}

// unlinkLocked takes op out of the link, wherever it is.
func (l *link) unlinkLocked(op *operation) {
	l.leaveWindowLocked(op)
	if op.id != 0 {
		l.ops.Delete(op.id)
	}
	if op.isYoung {
		l.removeYoungLocked(op)
	}
	l.expectNoMoreLocked(op)
	op.state = opDone
}

// leaveWindowLocked takes op out of queue or unanswered, if it is in one of them.
func (l *link) leaveWindowLocked(op *operation) {
	switch op.state {
	case opQueued:
		l.queue.remove(op)
	case opSent:
		l.unanswered.remove(op)
	default:
		return
	}
	if op.kind.finishes() {
		l.finishedLocked()
	}
	if len(l.waiters) > 0 {
		l.passRoomLocked()
	}
}

// abandon is for a caller that leaves before its one result came. It tells what became of the operation: opQueued if it
// was never sent and the link has forgotten it, opSent if its result will be dropped, opDone if the result is there or
// about to come.
func (l *link) abandon(op *operation) opState {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch was := op.state; was {
	case opQueued:
		l.unlinkLocked(op)
		return was
	case opSent:
		op.abandoned = true
		return was
	default:
		return opDone
	}
}

// leave ends an operation of several results on the client's side: the server is told to detach it.
func (l *link) leave(op *operation) {
	l.mu.Lock()
	was, id := op.state, op.id
	if was == opIdle || was == opDone {
		l.mu.Unlock()
		return
	}
	l.unlinkLocked(op)
	if was == opQueued {
		l.mu.Unlock()
		return
	}
	l.detach = append(l.detach, id)
	l.sendLocked(false)
	if l.leaving.Load() { // it may have been what was not answered
		l.moveOn()
	}
}

// grant gives the server room for more replies to op.
func (l *link) grant(op *operation, items int) {
	l.mu.Lock()
	if op.state != opAnswered {
		l.mu.Unlock()
		return
	}
	l.credits = append(l.credits, itemCredit{id: op.id, items: uint32(items)})
	l.sendLocked(false)
}

// waitsForLocked says what a caller waits for: for what it asked, or for the connection.
func (l *link) waitsForLocked(what string) string {
	if l.stream != nil {
		return "waiting for " + what
	}
	text := "waiting for a connection to " + l.client.target
	if l.lastErr != nil {
		text += " (last error: " + status.Convert(l.lastErr).Message() + ")"
	}
	return text
}

func (l *link) waitsFor(what string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waitsForLocked(what)
}

func (l *link) finishedLocked() {
	l.finishing--
	if l.finishing == 0 && l.flushed != nil {
		close(l.flushed)
		l.flushed = nil
	}
}

// expectMore has flush wait for an operation that has been sent and will, when it is answered, bring about another one: a
// call that was cancelled before its receipt came. expectNoMore ends that.
func (l *link) expectMore(op *operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if op.state == opSent && !op.expecting {
		op.expecting = true
		l.finishing++
	}
}

func (l *link) expectNoMore(op *operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expectNoMoreLocked(op)
}

func (l *link) expectNoMoreLocked(op *operation) {
	if op.expecting {
		op.expecting = false
		l.finishedLocked()
	}
}

// flush waits until no settlement, reply or cancellation is under way, at most for grace, and not without a stream.
func (l *link) flush(grace time.Duration) {
	l.mu.Lock()
	if l.finishing == 0 || l.stream == nil {
		l.mu.Unlock()
		return
	}
	flushed := make(chan struct{})
	l.flushed = flushed
	l.mu.Unlock()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-timer.C:
	}
}

// close lets nothing in any more. What is in the link is failed by run, which ends with the client's context.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.passRoomLocked()
	if l.ticking != nil {
		l.ticking.Stop()
	}
	if l.confirming != nil {
		l.confirming.Stop()
	}
}
