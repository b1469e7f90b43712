package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/optable"
)

// A session is one Session stream.
//
// Two goroutines work for it, besides the handler's, which only waits for the end. The receiver takes frames from the
// client, checks and converts their operations, and submits each frame's to the broker in one go; it never waits for the
// sender. The sender writes whatever results have gathered since its last frame. The two meet in the fields under mu,
// in the broker's session, and in sendMu: where hardly anything is under way the receiver sends the results of its
// operations itself, which saves a change of goroutine.
type session struct {
	srv    *Server
	stream grpc.BidiStreamingServer[queuepb.SessionRequest, queuepb.SessionResponse]
	id     []byte // the client's; empty if it cannot come back
	// confirms says that the client tells what it has received.
	confirms bool
	broker   *broker.Session
	caller   caller // the receiver's

	// items is the broker's session for the items of batches, made when first needed; see batchOps.
	items atomic.Pointer[broker.Session]

	kick chan struct{} // has room for one: wakes the sender for what the broker does not wake it for
	done chan struct{} // closed when the session is over, by finish

	credit  atomic.Int64 // bytes of items that may be sent
	sending atomic.Int64 // when the Send that is under way began, in Unix nanoseconds; 0 if none is
	unread  atomic.Int64 // bytes sent since the client last showed that it reads

	linger lingering

	// submitMu lets one goroutine at a time tell the broker something: the receiver, or the watchdog for what is left.
	submitMu sync.Mutex
	ops      []broker.Op    // of the frame that is being taken; the receiver's
	itemOps  []broker.Op    // likewise, of the items of batches
	decoder  requestDecoder // the receiver's

	mu         sync.Mutex
	open       optable.Table[openOp] // by operation id
	rare       map[uint64]openRare   // likewise; nil until there is one
	passed     []uint64              // operations whose End has arrived, and the broker does not know
	written    []writtenEnd          // Ends that were written, and the client has not confirmed
	unanswered int
	consumes   int // open Consumes
	local      []broker.Event
	pong       uint64
	goingAway  *queuepb.GoingAway
	halfClosed bool
	finished   bool
	err        error // of the stream, once finished

	sendMu sync.Mutex
	send   sender
}

// An openOp is an operation that is not over. A waiting request has one, so it is small.
type openOp struct {
	kind     kind
	answered bool
	rare     bool // there is more of it in session.rare
}

// openRare is what few operations need.
type openRare struct {
	fix   func(body any) any // see operation
	batch *batch
}

// setRare notes what few operations need.
func (ss *session) setRare(id uint64, rare openRare) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.open.Get(id).rare = true
	if ss.rare == nil {
		ss.rare = make(map[uint64]openRare)
	}
	ss.rare[id] = rare
}

// Session implements the RPC.
func (s *service) Session(
	stream grpc.BidiStreamingServer[queuepb.SessionRequest, queuepb.SessionResponse],
) error {
	first := &inFrame{}
	if err := receiveFrame(stream, first); err != nil {
		if errors.Is(err, io.EOF) {
			return helloExpected()
		}
		return err
	}
	c := s.caller(stream.Context())
	hello, refused := s.checkHello(first.hello)
	if refused != nil {
		return refused
	}
	if stalled := c.tenure.broker.Stalled(); stalled != nil {
		return stalled // it would repeat what may have been carried out, which nobody can say now
	}
	done, refused := c.tenure.broker.OpenSession(c.id.Tenant)
	if refused != nil {
		return refused
	}
	defer done()
	ss := &session{
		srv:      s.Server,
		stream:   stream,
		id:       hello.SessionId,
		confirms: hello.ConfirmsResults,
		caller:   *c,
		kick:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		send:     sender{held: make(map[uint64]int)},
	}
	ss.broker = c.tenure.broker.Attach(c.id, broker.SessionOptions{ID: hello.SessionId, Hasty: ss.sendHastily})
	ss.caller.made = &madeRequests{}
	ss.send.frame.keys, ss.send.frame.pool = s.keys, s.buffers
	ss.credit.Store(int64(hello.CreditBytes))
	if err := stream.Send(&queuepb.SessionResponse{Hello: c.info()}); err != nil {
		ss.broker.Close()
		return err
	}
	s.log.LogAttrs(stream.Context(), slog.LevelDebug, "session opened",
		slog.String("client", show(hello.ClientName)), slog.String("client_version", show(hello.ClientVersion)),
		slog.String("tenant", c.id.TenantName), slog.String("principal", c.id.Principal))
	return s.runSession(ss, first)
}

// receiveFrame receives the next frame of a session.
func receiveFrame(stream grpc.ServerStream, in *inFrame) error {
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	return in.parse()
}

// checkHello checks and completes the first frame's hello.
func (s *service) checkHello(hello *queuepb.Hello) (*queuepb.Hello, *broker.Error) {
	if hello == nil {
		return nil, helloExpected()
	}
	if hello.ProtocolVersion != protocolVersion {
		return nil, refuse(reasonVersionUnsupported, "hello.protocol_version", fmt.Sprintf(
			"this server speaks version %d of the Session protocol: use a client that does, or the plain RPCs", protocolVersion))
	}
	if n := len(hello.SessionId); n != 0 && (n < minSessionID || n > maxSessionID) {
		return nil, refuse(reasonSessionIDInvalid, "hello.session_id", "use 16 to 64 random bytes, or none")
	}
	if hello.CreditBytes == 0 {
		hello.CreditBytes = defaultCreditBytes
	}
	if hello.CreditBytes < uint64(s.limits.payload) {
		return nil, refuse(reasonCreditInvalid, "hello.credit_bytes", fmt.Sprintf(
			"give credit for at least one message, that is %d bytes, or leave it unset", s.limits.payload))
	}
	hello.CreditBytes = min(hello.CreditBytes, maxCreditBytes)
	hello.SessionId = slices.Clone(hello.SessionId)
	hello.ClientName = trimText(hello.ClientName, maxHelloName)
	hello.ClientVersion = trimText(hello.ClientVersion, maxHelloName)
	return hello, nil
}

func helloExpected() *broker.Error {
	return refuse(reasonHelloExpected, "hello", "the first frame must have hello, and only the first")
}

// runSession works until the session is over. The receiver may outlive the handler by a moment: what it waits for ends
// with the stream's context, which ends when the handler has returned. Shutdown waits for it.
func (s *service) runSession(ss *session, first *inFrame) error {
	if !s.addSession(ss) {
		ss.broker.Close()
		return errDraining()
	}
	s.background.Go(func() {
		defer ss.recover()
		ss.receive(first)
	})
	s.background.Go(func() {
		defer ss.recover()
		ss.writeLoop()
	})
	select {
	case <-ss.done:
	case <-ss.stream.Context().Done():
		ss.finish(ss.stream.Context().Err())
	}
	s.removeSession(ss)
	ss.linger.stop()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.err
}

// finish ends the session; the first reason counts. A nil error is the clean end.
func (ss *session) finish(err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.finished {
		return
	}
	ss.finished, ss.err = true, err
	close(ss.done)
}

// recover turns a panic in one of the session's goroutines into its end; the interceptor sees only the handler's.
func (ss *session) recover() {
	if p := recover(); p != nil {
		ss.finish(ss.srv.panicked(ss.stream.Context(), p))
	}
}

// wake makes the sender look for work.
func (ss *session) wake() {
	select {
	case ss.kick <- struct{}{}:
	default:
	}
}

// receive is the receiver.
func (ss *session) receive(first *inFrame) {
	// A cut for the broker, and only now: nothing may be submitted to a closed session.
	defer func() {
		ss.flushPassed()
		ss.broker.Close()
		if items := ss.items.Load(); items != nil {
			items.Close()
		}
	}()
	in := first
	in.hello = nil
	err := ss.take(in)
	for err == nil {
		in.free()
		if err = receiveFrame(ss.stream, in); err == nil {
			err = ss.take(in)
		}
	}
	in.free()
	if errors.Is(err, io.EOF) { // the client has closed its side: its operations are still answered
		ss.mu.Lock()
		ss.halfClosed = true
		ss.mu.Unlock()
		ss.wake()
		<-ss.done
		return
	}
	ss.finish(err)
}

// take carries out one frame, in the order of its fields' numbers. An error ends the session.
func (ss *session) take(in *inFrame) error {
	if in.hello != nil {
		return helloExpected()
	}
	few := false
	if len(in.operations) > 0 {
		ss.decoder.scan, ss.decoder.large = in.scan, in.large()
		var err error
		if few, err = ss.operations(in.operations); err != nil {
			return err
		}
	}
	wake := false
	for i := range in.credits {
		wake = ss.grant(&in.credits[i]) || wake
	}
	for _, id := range in.detach {
		ss.detach(id)
	}
	if in.answeredBelow > 0 {
		ss.answeredBelow(in.answeredBelow)
	}
	if in.resultsReceived > 0 {
		ss.confirmed(in.resultsReceived)
	}
	if in.ping != 0 {
		ss.mu.Lock()
		ss.pong = in.ping
		ss.mu.Unlock()
		wake = true
	}
	if ss.broker.Holds() && !wake && !ss.hasLocal() {
		ss.linger.begin(ss)
		return nil
	}
	if few && ss.sendInLine() {
		return nil
	}
	if wake || ss.hasLocal() {
		ss.wake()
	}
	return nil
}

// operations checks and submits the operations of a frame. It reports whether hardly any operation is under way.
func (ss *session) operations(in []inOperation) (few bool, err error) {
	ss.caller.at(ss.caller.tenure.now())
	ops := ss.ops[:0]
	ss.mu.Lock()
	err = ss.registerLocked(in)
	ss.mu.Unlock()
	if err != nil {
		return false, err
	}
	for i := range in {
		o := &in[i]
		request, timeout, err := ss.decoder.decode(o)
		if err != nil {
			return false, err
		}
		ss.caller.content = ss.decoder.content
		op, refused := ss.operation(o, request, timeout)
		switch {
		case refused != nil:
			ss.answer(o.id, op.kind, refused)
		case op.answer != nil:
			ss.answer(o.id, op.kind, op.answer)
		case op.request != nil:
			if op.fix != nil {
				ss.setRare(o.id, openRare{fix: op.fix})
			}
			ops = append(ops, broker.Op{
				ID: o.id, Credit: op.credit, Timeout: op.timeout, Patient: o.patient, Request: op.request,
			})
		}
	}
	ss.submit(ops, ss.itemOps)
	clear(ops)
	clear(ss.itemOps)
	ss.itemOps = unlessLarge(ss.itemOps)
	ss.ops = ops
	ss.caller.made.reset()
	ss.caller.at(ss.caller.now) // the frame is about to be freed
	ss.caller.content = nil
	ss.decoder.forget()
	if ss.caller.forging {
		return false, ss.endForging()
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(in) <= fewOps && ss.open.Len()-ss.consumes <= fewOps, nil
}

// submit hands operations to the broker, and tells it which Ends have been written.
func (ss *session) submit(ops, batches []broker.Op) {
	ss.submitMu.Lock()
	defer ss.submitMu.Unlock()
	ss.passLocked()
	if len(batches) > 0 {
		ss.items.Load().Submit(batches)
	}
	if len(ops) > 0 {
		ss.broker.Submit(ops)
	}
}

// registerLocked opens a frame's operations. What it refuses ends the session.
func (ss *session) registerLocked(in []inOperation) error {
	for i := range in {
		o := &in[i]
		if o.id == 0 {
			return refuse(reasonOpIDInvalid, "operations.id", "number operations from 1, rising")
		}
		if ss.open.Get(o.id) != nil {
			return refuse(reasonOpIDInvalid, "operations.id", fmt.Sprintf(
				"operation %d is still under way: number operations from 1, rising", o.id))
		}
		op := ss.open.Put(o.id)
		if o.kind.streams() || o.kind == kindEnqueue {
			op.kind = o.kind // others have one answer, whose type tells what it answers
		}
		if o.kind == kindConsume {
			ss.consumes++
		}
		ss.unanswered++
	}
	if ss.unanswered > maxWindow {
		return errWindowExceeded()
	}
	return nil
}

func errWindowExceeded() *broker.Error {
	return refuse(reasonWindowExceeded, "operations", fmt.Sprintf(
		"more than %d operations wait for their answer: await some before sending more", maxWindow))
}

// operation checks and converts one operation of a frame. The items of a batch go into itemOps.
func (ss *session) operation(
	o *inOperation, request any, timeout *durationpb.Duration,
) (operation, *broker.Error) {
	switch b := request.(type) {
	case *plainBatch:
		return ss.plainBatchOps(o.id, b)
	case *queuepb.Operation_EnqueueBatch:
		return ss.batchOps(o.id, b.EnqueueBatch)
	}
	op, err := ss.caller.operation(request)
	if err != nil {
		return op, err
	}
	switch op.kind {
	case kindCall, kindReceive:
		if op.credit = o.credit; op.credit == 0 {
			op.credit = defaultReplyCredit
		}
	case kindReply:
		op.timeout, err = replyTimeout(timeout)
	}
	return op, err
}

// replyTimeout is how long a reply may wait for room in its pipe.
func replyTimeout(timeout *durationpb.Duration) (time.Duration, *broker.Error) {
	if timeout == nil {
		return maxReplyWait, nil
	}
	d, err := duration(timeout, "timeout")
	if err == nil && d < 0 {
		err = refuse(reasonDurationInvalid, "timeout", "use 0 to 10 s, or leave it unset")
	}
	return min(d, maxReplyWait), err
}

// answer gives an operation a result that the server knows by itself.
func (ss *session) answer(id uint64, k kind, body any) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if op := ss.open.Get(id); op.kind == kindNone {
		op.kind = k
	}
	ss.local = append(ss.local, broker.Event{Op: id, Done: true, Body: body})
}

func (ss *session) hasLocal() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.local) > 0
}

// closeLocked forgets an operation that is over.
func (ss *session) closeLocked(id uint64, op *openOp) {
	if !op.answered {
		op.answered = true
		ss.unanswered--
	}
	if op.kind == kindConsume {
		ss.consumes--
	}
	if op.rare {
		delete(ss.rare, id)
	}
	ss.open.Delete(id)
}
