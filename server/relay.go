package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/broker"
)

// Relaying a call to the replica that serves. Its messages pass as the bytes that came: what is wrong with them, the
// owner says, and in the same words as to its own clients. In each direction one message at a time is in hand, so that
// whoever does not read holds up whoever sends, as if there were nothing in between.

// outgoing makes the context of the call to the owner: what the client has sent along, but its credentials; and who it is.
func (s *Server) outgoing(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	in, _ := metadata.FromIncomingContext(ctx)
	md := make(metadata.MD, len(in)+3)
	for name, values := range in {
		if name != "authorization" {
			md[name] = values
		}
	}
	id := identityOf(ctx)
	s.vouch(md, &id)
	ctx = metadata.NewOutgoingContext(ctx, md)
	free := func() {}
	if deadline, ok := ctx.Deadline(); ok {
		// The owner ends the call a little before its deadline, see early. Its word has some way to go.
		ctx, free = context.WithDeadline(ctx, deadline.Add(-early(time.Until(deadline))/4))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, func(cause error) {
		cancel(cause)
		free()
	}
}

// A relayed is a call that is under way at the owner.
type relayed struct {
	srv    *Server
	client context.Context //nolint:containedctx // of the client's call
	owner  *owner
	ctx    context.Context //nolint:containedctx // of the call to the owner
	cancel context.CancelCauseFunc
	unhook func() bool
	conn   *peerConn
	stream grpc.ClientStream
	// sent says that the owner may have begun to carry it out.
	sent bool
}

var relayedDesc = grpc.StreamDesc{ServerStreams: true, ClientStreams: true} //nolint:gochecknoglobals // read only

// connect opens a call at the owner, sends the first message and awaits the answer to it. An error is either a failure,
// or io.EOF if the call is over without one.
func (s *Server) connect(ctx context.Context, find *search, o *owner, method string, first *rawFrame, half bool) (*relayed, *rawFrame, error) {
	r := &relayed{srv: s, client: ctx, owner: o}
	r.ctx, r.cancel = s.outgoing(ctx)
	r.unhook = context.AfterFunc(o.ctx, func() { r.cancel(context.Cause(o.ctx)) })
	answer, err := r.begin(find, method, first, half)
	if err != nil {
		defer r.close()
		return nil, nil, r.failure(err)
	}
	return r, answer, nil
}

func (r *relayed) begin(find *search, method string, first *rawFrame, half bool) (answer *rawFrame, err error) {
	if r.conn, err = r.owner.enter(); err != nil {
		return nil, err
	}
	patience := time.AfterFunc(time.Until(find.limit), func() { r.cancel(errOwnerUnreachable()) })
	r.stream, err = r.conn.NewStream(r.ctx, &relayedDesc, method)
	if !patience.Stop() && err == nil {
		err = context.Canceled
	}
	if err != nil {
		return nil, err
	}
	r.sent = true
	if err := r.stream.SendMsg(first); err != nil && !errors.Is(err, io.EOF) {
		return nil, err // after an EOF the receiving end has the reason
	}
	if half {
		_ = r.stream.CloseSend() // never fails
	}
	return r.receive()
}

// receive receives the owner's next message.
func (r *relayed) receive() (*rawFrame, error) {
	f := &rawFrame{}
	if err := r.stream.RecvMsg(f); err != nil {
		return nil, err
	}
	return f, nil
}

// close ends the call to the owner, if it is not over.
func (r *relayed) close() {
	r.unhook()
	r.cancel(nil)
	if r.conn != nil {
		r.owner.leave(r.conn)
	}
}

// A failure is how a relayed call ended.
type failure struct {
	err      error
	trailers metadata.MD // the owner's
	again    bool        // it was not carried out: another replica may serve
}

func (f *failure) Error() string { return f.err.Error() }

// failure finds out who ended the call, and why. It is the client's error, as the owner would give it, if it did.
func (r *relayed) failure(err error) *failure {
	var trailers metadata.MD
	if r.stream != nil {
		trailers = r.stream.Trailer()
	}
	switch first(trailers.Get(headerPeer)) {
	case peerServes:
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return &failure{err: err, trailers: passedOn(trailers)}
	case peerElsewhere:
		return &failure{err: errOwnerUnreachable(), again: true}
	}
	return r.broken(err)
}

// broken is the failure of a call whose end the owner did not tell.
func (r *relayed) broken(err error) *failure {
	if err := r.client.Err(); err != nil {
		return &failure{err: err}
	}
	if errors.Is(r.ctx.Err(), context.DeadlineExceeded) {
		return &failure{err: context.DeadlineExceeded}
	}
	if r.srv.running.Err() != nil {
		e := errDraining()
		e.OutcomeUnknown = r.sent
		return &failure{err: e}
	}
	r.srv.log.LogAttrs(r.client, slog.LevelDebug, "a relayed call broke",
		slog.String("owner", r.owner.address), slog.String("code", status.Code(err).String()), slog.Bool("sent", r.sent))
	switch code := status.Code(err); {
	case !r.sent:
		return &failure{err: errOwnerUnreachable(), again: true}
	case r.owner.ctx.Err() != nil:
		return &failure{err: errOwnerChanged()}
	case code == codes.PermissionDenied:
		r.srv.log.LogAttrs(r.client, slog.LevelError, "the owner does not take this server for a replica: are the key files the same?",
			slog.String("owner", r.owner.address))
		return &failure{err: errOwnerUnreachable()}
	case code == codes.Unimplemented, code == codes.ResourceExhausted:
		return &failure{err: err}
	}
	return &failure{err: errOwnerLost()}
}

// passedOn are the trailers that are for the client.
func passedOn(trailers metadata.MD) metadata.MD {
	out := make(metadata.MD, len(trailers))
	for name, values := range trailers {
		if name != headerPeer && !strings.HasPrefix(name, "grpc-") && name != "content-type" {
			out[name] = values
		}
	}
	return out
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// locally carries out a call here, in a context that has the tenure.
type locally func(ctx context.Context) (any, error)

// served says where a call that another replica has relayed is served; it goes no further than here.
func (s *Server) served(ctx context.Context) (*place, *broker.Error) {
	p := s.placed.Load()
	mark := peerServes
	if p.tenure == nil {
		mark = peerElsewhere
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs(headerPeer, mark)) // fails only for calls that are over
	if p.tenure == nil {
		return nil, errOwnerUnreachable()
	}
	return p, nil
}

// unaryAnywhere carries out a call with one answer, here or at the owner.
func (s *Server) unaryAnywhere(ctx context.Context, method string, in *rawFrame, here locally) (any, error) {
	if isRelayed(ctx) {
		p, refused := s.served(ctx)
		if refused != nil {
			return nil, refused
		}
		return here(context.WithValue(ctx, tenureKey{}, p.tenure))
	}
	s.asking.Add(1)
	defer s.asking.Add(-1)
	find := s.newSearch(ctx)
	var not *place
	for {
		p, refused := find.place(ctx, not)
		if refused != nil {
			return nil, refused
		}
		if p.tenure != nil {
			return here(context.WithValue(ctx, tenureKey{}, p.tenure))
		}
		answer, fail := s.relayUnary(ctx, find, p.owner, method, in)
		if fail == nil {
			return answer, nil
		}
		if !fail.again {
			return nil, relayedEnd(ctx, fail)
		}
		not = p
	}
}

func (s *Server) relayUnary(ctx context.Context, find *search, o *owner, method string, in *rawFrame) (*rawFrame, *failure) {
	r, answer, err := s.connect(ctx, find, o, method, in, true)
	if err != nil {
		return nil, failureOf(err)
	}
	defer r.close()
	// The status comes behind the answer.
	if more, err := r.receive(); err == nil {
		more.free()
		answer.free()
		return nil, &failure{err: errInternal()} // unreachable: one answer is all there is
	} else if fail := r.failure(err); fail.err != nil {
		answer.free()
		return nil, fail
	}
	return answer, nil
}

func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{err: err}
}

// relayedEnd gives a client the owner's end of its call.
func relayedEnd(ctx context.Context, f *failure) error {
	if len(f.trailers) == 0 {
		return f.err
	}
	_ = grpc.SetTrailer(ctx, f.trailers) // fails only for calls that are over
	f.note(ctx)
	return f.err
}

// note gives the call's line in the log what the owner says of its end.
func (f *failure) note(ctx context.Context) {
	line, ok := ctx.Value(callLineKey{}).(*callLine)
	if !ok {
		return
	}
	line.reason = first(f.trailers.Get(trailerReason))
	for _, d := range status.Convert(f.err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Metadata[metadataEndReason] != "" {
			line.ended = true
		}
	}
}
