package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// A placedStream is a stream that turned out to be served here. It gives its first message again, if that was read.
type placedStream struct {
	grpc.ServerStream
	srv   *Server
	ctx   context.Context //nolint:containedctx // the stream's
	first *rawFrame
}

// Context implements grpc.ServerStream.
func (p *placedStream) Context() context.Context { return p.ctx }

// RecvMsg implements grpc.ServerStream.
func (p *placedStream) RecvMsg(m any) error {
	if p.first == nil {
		return p.ServerStream.RecvMsg(m)
	}
	f := p.first
	p.first = nil
	if err := p.srv.codec.Unmarshal(f.data, m); err != nil {
		return err
	}
	return p.srv.limits.frameError(m)
}

// streamAnywhere carries out a call that streams, here or at the owner.
func (s *Server) streamAnywhere(
	stream grpc.ServerStream, method string, desc *grpc.StreamDesc, here func(grpc.ServerStream) error,
) error {
	ctx := stream.Context()
	at := func(p *place, first *rawFrame) error {
		return here(&placedStream{stream, s, context.WithValue(ctx, tenureKey{}, p.tenure), first})
	}
	if isRelayed(ctx) {
		p, refused := s.served(ctx)
		if refused != nil {
			return refused
		}
		return at(p, nil)
	}
	if p := s.placed.Load(); p.tenure != nil {
		return at(p, nil)
	}
	in := &rawFrame{}
	if err := stream.RecvMsg(in); err != nil {
		if errors.Is(err, io.EOF) && desc.ClientStreams {
			return helloExpected()
		}
		return err
	}
	defer in.free()
	find := s.newSearch(ctx)
	var not *place
	for {
		p, refused := find.place(ctx, not)
		if refused != nil {
			return refused
		}
		if p.tenure != nil {
			return at(p, in)
		}
		r, answer, err := s.connect(ctx, find, p.owner, method, in, !desc.ClientStreams)
		if err == nil {
			defer r.close()
			if desc.ClientStreams {
				return s.runRelayed(r, stream, answer)
			}
			return relayedEnd(ctx, failureOf(r.pump(stream, answer)))
		}
		if fail := failureOf(err); !fail.again {
			return relayedEnd(ctx, fail)
		}
		not = p
	}
}

// pump passes on what the owner sends, beginning with a message that has come.
func (r *relayed) pump(down interface{ SendMsg(m any) error }, f *rawFrame) error {
	for {
		err := down.SendMsg(f)
		f.free()
		if err != nil {
			return err
		}
		if f, err = r.receive(); err != nil {
			return r.failure(err)
		}
	}
}

// A relayedSession is a Session whose other end is at the owner.
type relayedSession struct {
	*relayed
	down    grpc.ServerStream
	sending atomic.Int64  // when the SendMsg that is under way began, in Unix nanoseconds; 0 if none is
	done    chan struct{} // closed when err is set

	sendMu sync.Mutex // one SendMsg at a time

	mu   sync.Mutex
	over bool
	err  error // how it ended
}

// SendMsg sends to the client.
func (rs *relayedSession) SendMsg(m any) error {
	rs.sendMu.Lock()
	defer rs.sendMu.Unlock()
	rs.sending.Store(time.Now().UnixNano())
	defer rs.sending.Store(0)
	return rs.down.SendMsg(m)
}

// finish ends the session; the first reason counts.
func (rs *relayedSession) finish(err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if !rs.over {
		rs.over, rs.err = true, err
		close(rs.done)
	}
}

// runRelayed works until the session is over. As with sessions that are served here, those who send and receive may
// outlive the handler by a moment.
func (s *Server) runRelayed(r *relayed, stream grpc.ServerStream, answer *rawFrame) error {
	rs := &relayedSession{relayed: r, down: stream, done: make(chan struct{})}
	if !s.addRelayed(rs) {
		answer.free()
		return errDraining()
	}
	defer s.removeRelayed(rs)
	s.background.Go(func() { rs.finish(r.pump(rs, answer)) })
	s.background.Go(rs.upward)
	select {
	case <-rs.done:
	case <-stream.Context().Done():
		rs.finish(stream.Context().Err())
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return relayedEnd(stream.Context(), failureOf(rs.err))
}

// upward passes on what the client sends.
func (rs *relayedSession) upward() {
	for {
		f := &rawFrame{}
		if err := rs.down.RecvMsg(f); errors.Is(err, io.EOF) {
			_ = rs.stream.CloseSend() // never fails
			return
		} else if err != nil {
			rs.finish(err)
			return
		}
		err := rs.stream.SendMsg(f)
		f.free()
		if err != nil {
			return // whoever receives has the reason
		}
	}
}

// goAway asks the client to finish and come back elsewhere.
func (rs *relayedSession) goAway(grace time.Duration) {
	_ = rs.SendMsg(&queuepb.SessionResponse{GoingAway: &queuepb.GoingAway{ // fails only if the session is over
		Message: textGoingAway, Grace: durationpb.New(grace),
	}})
}

// addRelayed registers a session. It returns false if all streams were told to end.
func (s *Server) addRelayed(rs *relayedSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.relayed[rs] = struct{}{}
	if s.draining {
		s.background.Go(func() { rs.goAway(0) })
	}
	return true
}

func (s *Server) removeRelayed(rs *relayedSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.relayed, rs)
	s.closeIfIdleLocked()
}
