package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
)

// Handlers return broker errors; these interceptors are where they become statuses and trailers.

func (s *Server) unaryErrors(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	err := s.limits.frameError(req)
	var res any
	if err == nil {
		res, err = handler(ctx, req)
	}
	if err == nil {
		return res, nil
	}
	st, trailers := s.status(ctx, err)
	if len(trailers) > 0 {
		_ = grpc.SetTrailer(ctx, trailers) // fails only for calls that are over
	}
	return nil, st.Err()
}

func (s *Server) streamErrors(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	checked := &checkedStream{ServerStream: stream, ctx: stream.Context(), limits: s.limits}
	switch {
	case !strings.HasPrefix(info.FullMethod, "/replyq."):
		// Health and reflection do not keep the server up, and know nothing of its end: a Watch would go on for ever.
		var cancel context.CancelFunc
		checked.ctx, cancel = context.WithCancel(checked.ctx)
		defer cancel()
		defer context.AfterFunc(s.running, cancel)()
	case info.FullMethod == queuepb.AdminService_WatchQueues_FullMethodName: // does not keep the server up either
	case !info.IsClientStream: // sessions are counted apart
		s.addStream(1)
		defer s.addStream(-1)
	}
	err := handler(srv, checked)
	if err == nil {
		return nil
	}
	st, trailers := s.status(stream.Context(), err)
	stream.SetTrailer(trailers)
	return st.Err()
}

// status converts an error, and logs what cannot be shown.
func (s *Server) status(ctx context.Context, err error) (*status.Status, metadata.MD) {
	st, trailers, known := toStatus(err)
	line, _ := ctx.Value(callLineKey{}).(*callLine)
	if line != nil {
		if reason := trailers.Get(trailerReason); len(reason) > 0 {
			line.reason = reason[0]
		}
		line.ended = line.ended || errors.As(err, new(*endError)) // a relayed call's is noted before
	}
	if !known {
		s.log.LogAttrs(ctx, slog.LevelError, "unexpected error", slog.String("type", typeName(err)))
	}
	return st, trailers
}

// typeName is what the log may know of a value that could hold anything.
func typeName(v any) string { return fmt.Sprintf("%T", v) }

// A checkedStream refuses what the codec could not decode.
type checkedStream struct {
	grpc.ServerStream
	ctx    context.Context
	limits limits
}

// Context implements grpc.ServerStream.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.limits.frameError(m)
}
