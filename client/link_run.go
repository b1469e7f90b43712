package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/buffers"
)

// protocolVersion is the Session protocol spoken here.
const protocolVersion = 1

// startLocked starts run, if it does not live.
func (l *link) startLocked() {
	if !l.running && !l.closed {
		l.running = true
		l.client.wg.Go(l.run)
	}
}

// run connects and reads, again and again while there is something to do.
func (l *link) run() {
	ctx := l.client.ctx
	waits := delays{Backoff: l.client.backoff}
	for {
		if ctx.Err() != nil {
			l.mu.Lock()
			l.closed, l.running = true, false // first, so that nothing comes in after failAll
			l.mu.Unlock()
			l.failAll(closedError(OutcomeUnknown))
			return
		}
		if l.restIfIdle() {
			return
		}
		s, greeting, err := l.open(ctx)
		if err == nil {
			l.attach(s, greeting)
			l.moveOn() // its greeting may say that it goes away
			began := time.Now()
			err = l.read(s)
			l.lose(s, err)
			if time.Since(began) > waits.Max {
				waits.reset()
			}
		} else if ctx.Err() == nil {
			l.refused(err)
		}
		if ctx.Err() == nil {
			l.pause(ctx, waits.wait(fromStatus(err, nil).RetryAfter))
		}
	}
}

// restIfIdle ends run when no operation needs a stream.
func (l *link) restIfIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ops.Len() > 0 || l.queue.n > 0 {
		return false
	}
	l.running = false
	return true
}

// pause waits before the next attempt: for d, or until the connection is there.
func (l *link) pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if state := l.conn.GetState(); state == connectivity.TransientFailure || state == connectivity.Connecting {
		l.conn.WaitForStateChange(ctx, state)
		return
	}
	<-ctx.Done()
}

var sessionDesc = &grpc.StreamDesc{StreamName: "Session", ServerStreams: true, ClientStreams: true}

// open opens a stream and exchanges greetings.
func (l *link) open(ctx context.Context) (*stream, *queuepb.GetServerInfoResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	slow := time.AfterFunc(connectTimeout, cancel)
	defer slow.Stop()
	fail := func(err error) (*stream, *queuepb.GetServerInfoResponse, error) {
		cancel()
		return nil, nil, err
	}
	cs, err := l.conn.NewStream(ctx, sessionDesc, queuepb.QueueService_Session_FullMethodName)
	if err != nil {
		return fail(err)
	}
	l.mu.Lock()
	hello := &queuepb.Hello{
		ProtocolVersion: protocolVersion, ClientName: l.client.name, ClientVersion: version,
		SessionId: l.sessionID, CreditBytes: sessionCredit, ConfirmsResults: true,
	}
	l.mu.Unlock()
	if err := cs.SendMsg(helloFrame(hello)); err != nil && !errors.Is(err, io.EOF) {
		return fail(err) // after an EOF the receiving end has the reason
	}
	var first queuepb.SessionResponse
	if err := cs.RecvMsg(&first); err != nil {
		return fail(receiveError(cs, err))
	}
	if first.GetHello() == nil {
		return fail(status.Error(codes.Internal, "the server did not greet"))
	}
	s := &stream{ClientStream: cs, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
	s.volatile = first.GetHello().GetDurability() <= queuepb.Durability_DURABILITY_MEMORY
	s.replicated = first.GetHello().GetDurability() >= queuepb.Durability_DURABILITY_CLUSTER
	if first.GetGoingAway() != nil {
		s.goesAway()
	}
	return s, first.GetHello(), nil
}

// receiveError is the error of a stream that was broken off, with what the trailers say.
func receiveError(cs grpc.ClientStream, err error) error {
	if errors.Is(err, io.EOF) {
		return status.Error(codes.Unavailable, "the server ended the session")
	}
	return fromStatus(err, cs.Trailer())
}

// errMovingOn ends a stream whose server goes away, once it is not needed any more.
var errMovingOn = errors.New("moving on")

// read hands out what comes until the stream ends.
func (l *link) read(s *stream) error {
	var in inFrame
	var results []result
	for {
		if err := s.RecvMsg(&in); err != nil {
			if l.hasLeft(s) {
				return errMovingOn
			}
			return receiveError(s, err)
		}
		var away *queuepb.GoingAway
		var err error
		results, away, err = parseFrame(in.buf.ReadOnlyData(), results[:0])
		if err != nil {
			in.buf.Free()
			return err
		}
		if in.kept {
			for i := range results {
				r := &results[i]
				r.kept = len(r.body) >= buffers.NearlyAll(in.buf.Len())
			}
		}
		if !l.accept(s, results, away) {
			in.buf.Free()
			return errMovingOn
		}
		for i := range results {
			if r := &results[i]; r.op != nil {
				r.op.sink.result(r)
			}
		}
		left := l.handedOut(s)
		in.buf.Free()
		clear(results)
		if away != nil {
			l.client.log.Info("server is going away", "target", l.client.target, "message", away.GetMessage())
		}
		if left {
			return errMovingOn
		}
		if away != nil && s.replicated {
			l.moveConsumers()
		}
	}
}

// accept brings the books up to date for a frame's results, and finds their operations; handedOut follows when they have their
// results. It returns false if the link has moved on, and a new stream brings it all again.
func (l *link) accept(s *stream, results []result, away *queuepb.GoingAway) bool {
	l.mu.Lock()
	if s.left {
		l.mu.Unlock()
		return false
	}
	l.handing = true
	l.corked = len(results) > inlineOutstanding
	l.received += uint64(len(results))
	for i := range results {
		r := &results[i]
		entry := l.ops.Get(r.id)
		if entry == nil {
			continue // its caller has left
		}
		op := *entry
		l.leaveWindowLocked(op)
		op.state = opAnswered
		switch op.kind {
		case opCall, opReceive, opConsume:
			if r.kind == op.kind && r.isItem() {
				l.owed += uint64(r.size)
			}
		default:
			r.done = true
		}
		if r.done {
			l.unlinkLocked(op)
		}
		if !op.abandoned {
			r.op = op
		}
	}
	if away != nil {
		s.goesAway()
		l.leaving.Store(s.replicated)
	}
	if l.confirming == nil && l.received != l.toldReceived {
		l.confirming = time.AfterFunc(confirmAfter, l.confirm)
	}
	if l.owed >= sessionCredit/4 || l.queue.n > 0 || l.received-l.toldReceived >= confirmEvery {
		l.sendLocked(false)
	} else {
		l.mu.Unlock()
	}
	return true
}

// moveOn ends the stream if its replica goes away and is not needed any more. It is for changes that no frame brings: after
// one that does, handedOut sees to it, so nothing is decided between the arrival of a delivery and its being counted.
func (l *link) moveOn() {
	l.mu.Lock()
	s := l.stream
	// What finishes something may be queued for this replica, which is the only one if the others are gone.
	if s == nil || !s.replicated || l.handing || l.finishing > 0 || !l.isDoneLocked(s) {
		l.mu.Unlock()
		return
	}
	s.left = true
	l.mu.Unlock()
	s.cancel() // read tells run
}

// answersTime is how long a link waits for a moment in which nothing is unanswered, before it leaves a replica that goes
// away. A busy one has no such moment, and may go on elsewhere with what it asked, as after a cut.
const answersTime = 3 * time.Second

func (s *stream) goesAway() {
	if !s.away {
		s.away, s.awaySince = true, time.Now()
	}
}

// isDoneLocked tells whether a server goes away and is not needed any more.
func (l *link) isDoneLocked(s *stream) bool {
	if !s.away || l.holds(s) || l.unanswered.n > 0 && !(s.replicated && time.Since(s.awaySince) > answersTime) {
		return false
	}
	// Without a journal, what waits for replies waits for this very server.
	return !s.volatile || l.onlyConsumersLocked()
}

func (l *link) hasLeft(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.left
}

// moveConsumers tells consumers that they are about to go on at another replica. Those that have not started are told when
// they have.
func (l *link) moveConsumers() {
	var consumers []*Consumer
	l.mu.Lock()
	for _, op := range l.ops.All() {
		if c, ok := (*op).sink.(*Consumer); ok && (*op).state == opAnswered {
			consumers = append(consumers, c)
		}
	}
	l.mu.Unlock()
	for _, c := range consumers {
		c.moveOn()
	}
}

// holds tells whether deliveries are held that would be lost if the stream ended. Another replica has those that wait for their
// consumer; a server on its own should rather have them settled before it stops.
func (l *link) holds(s *stream) bool {
	if s.replicated {
		return l.bound.Load() > 0
	}
	return l.leases.Load() > 0
}

func (l *link) onlyConsumersLocked() bool {
	for _, op := range l.ops.All() {
		if (*op).kind != opConsume {
			return false
		}
	}
	return true
}

// isItem tells whether a result of a call, receive or consume is a reply or a delivery, which takes credit.
func (r *result) isItem() bool {
	num, _ := event(r.body)
	return num == 2
}

// lose takes the stream off the link and waits for those who send on it.
func (l *link) lose(s *stream, err error) {
	s.cancel()
	l.mu.Lock()
	l.stream = nil
	l.leaving.Store(false)
	for l.sending {
		l.idle.Wait()
	}
	l.woken, l.hurried = false, false
	l.frame.reset()
	l.credits, l.detach, l.owed = l.credits[:0], l.detach[:0], 0
	l.lostAt, l.lastErr = time.Now(), err
	l.mu.Unlock()
	if l.client.ctx.Err() == nil && !errors.Is(err, errMovingOn) {
		l.client.log.Warn("session was cut", "target", l.client.target, "error", err)
	}
	if code := status.Code(err); code == codes.InvalidArgument || code == codes.FailedPrecondition {
		// Something that was sent offends the server, and would again.
		l.failUnanswered(err)
	}
}

// refused notes why there is no connection. What can only be mended by somebody else fails all that waits.
func (l *link) refused(err error) {
	l.mu.Lock()
	if status.Code(err) != codes.Canceled || l.lastErr == nil {
		l.lastErr = err
	}
	l.mu.Unlock()
	l.client.log.Warn("no session", "target", l.client.target, "error", err)
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.InvalidArgument, codes.FailedPrecondition:
		l.failAll(fromStatus(err, nil))
	default:
	}
}
