package server

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/broker"
)

// One line per call: who called what, and how it ended. Never a message, metadata, a handle, or the text of an error,
// which may be a replier's. Calls that went well, and health checks, are lines of level debug.

type callLineKey struct{}

// A callLine is what the interceptors inside add to a call's line.
type callLine struct {
	log    *slog.Logger
	ctx    context.Context
	method string
	id     broker.Identity
	reason string
	ended  bool // what is wrong is how a pipe has ended
}

// reporter starts a call's line; it is the function that go-grpc-middleware's reporting interceptors take.
func (s *Server) reporter(ctx context.Context, meta interceptors.CallMeta) (interceptors.Reporter, context.Context) {
	method, ok := grpc.Method(ctx)
	if !ok {
		method = meta.FullMethod() // makes a string anew
	}
	line := &callLine{log: s.log, method: method}
	line.ctx = context.WithValue(ctx, callLineKey{}, line)
	return line, line.ctx
}

// PostMsgSend implements interceptors.Reporter.
func (l *callLine) PostMsgSend(any, error, time.Duration) {}

// PostMsgReceive implements interceptors.Reporter.
func (l *callLine) PostMsgReceive(any, error, time.Duration) {}

// PostCall implements interceptors.Reporter: it writes the line.
func (l *callLine) PostCall(err error, duration time.Duration) {
	code := status.Code(err)
	level := levelOf(code, l.method)
	if l.ended { // whatever code a replier chose: the call went well
		level = min(level, slog.LevelInfo)
	}
	if !l.log.Enabled(l.ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", l.method),
		slog.String("code", code.String()),
		slog.Duration("duration", duration),
	}
	if l.reason != "" {
		attrs = append(attrs, slog.String("reason", l.reason))
	}
	if l.id.Tenant != 0 {
		attrs = append(attrs, slog.String("tenant", l.id.TenantName), slog.String("principal", l.id.Principal))
	}
	if p, ok := peer.FromContext(l.ctx); ok {
		attrs = append(attrs, slog.String("peer", p.Addr.String()))
	}
	l.log.LogAttrs(l.ctx, level, "call", attrs...)
}

func levelOf(code codes.Code, method string) slog.Level {
	switch {
	case needsNoIdentity(method), code == codes.OK, code == codes.Canceled:
		return slog.LevelDebug
	case code == codes.Internal, code == codes.Unknown, code == codes.DataLoss:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// panicked turns a panic in a handler into INTERNAL. The log gets the type of what was thrown and the stack, whose
// arguments are numbers; the value could hold anything.
func (s *Server) panicked(ctx context.Context, p any) error {
	method := ""
	if line, ok := ctx.Value(callLineKey{}).(*callLine); ok {
		method = line.method
	}
	s.log.LogAttrs(ctx, slog.LevelError, "panic in a call",
		slog.String("method", method), slog.String("type", typeName(p)), slog.String("stack", string(debug.Stack())))
	return errInternal()
}
