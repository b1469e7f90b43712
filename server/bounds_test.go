package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// lockedBuffer is what a log is written to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// forged is a handle of this server with another signature.
func forged(h *queuepb.Handle) *queuepb.Handle {
	last := len(h.Token) - 10
	return &queuepb.Handle{Token: h.Token[:last] + flip(h.Token[last]) + h.Token[last+1:]}
}

// TestForgeries: a principal that sends a hundred handles with a wrong signature loses its session, after it has been
// told what is wrong with each; those of another run of the server do not count. The log says who, and no more.
func TestForgeries(t *testing.T) {
	var log lockedBuffer
	clock := newClock()
	c := newClient(t, testbed.WithServer(clock.server), testbed.WithServer(func(cfg *server.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}))
	pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	other := newClient(t)
	elsewhere := must[*queuepb.OpenPipeResponse](t)(other.OpenPipe(other.ctx, &queuepb.OpenPipeRequest{})).SendHandle
	s := c.openSession(&queuepb.Hello{})
	id := uint64(0)
	refusedAs := func(h *queuepb.Handle) {
		t.Helper()
		id++
		s.do(operationOf(id, &queuepb.CancelRequest{Handle: h}))
		if e := s.next(id).GetError(); e.GetReason() != "HANDLE_INVALID" {
			t.Fatalf("forgery %d: %v, want HANDLE_INVALID", id, e)
		}
	}
	bad := forged(pipe.ReceiveHandle)
	for range 99 {
		refusedAs(bad)
		refusedAs(elsewhere)
	}
	clock.advance(time.Minute)
	for range 99 {
		refusedAs(bad)
	}
	if log.String() != "" {
		t.Errorf("log after 99 in a minute:\n%s", log.String())
	}
	refusedAs(bad)
	if got, want := s.end(), (refusal{codes.ResourceExhausted, "TOO_MANY_FORGERIES", ""}); got != want {
		t.Errorf("status = %v, want %v", got, want)
	}
	line := log.String()
	if strings.Count(line, "wrong signature") != 1 || !strings.Contains(line, "principal=anonymous count=100") || strings.Contains(line, bad.Token[:20]) {
		t.Errorf("log = %q, want a line with principal and count, and no token", line)
	}
	// A new session, and a plain call, are as welcome as ever.
	if _, err := c.Cancel(c.ctx, &queuepb.CancelRequest{Handle: pipe.ReceiveHandle}); err != nil {
		t.Errorf("Cancel by plain RPC after that: %v", err)
	}
	again := c.openSession(&queuepb.Hello{}, opEnqueue(1, "a"))
	if again.next(1).GetEnqueue() == nil {
		t.Error("a new session cannot enqueue")
	}
}

// TestOverload: what the broker refuses for want of memory or quota reaches clients on both faces, with a time to wait.
func TestOverload(t *testing.T) {
	c := newClient(t, testbed.WithBroker(func(cfg *broker.Config) {
		cfg.MemoryLimit, cfg.Quota = 1<<20, broker.Quota{Pipes: 1, Sessions: 1}
	}))
	large := &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{Payload: make([]byte, 900<<10)}}
	overloaded := refusal{codes.ResourceExhausted, "SERVER_OVERLOADED", ""}
	_, trailer, err := c.send(large)
	if got := refusalOf(t, err, trailer); got != overloaded {
		t.Errorf("Enqueue over the memory limit: %v, want %v", got, overloaded)
	}
	must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{}))
	_, trailer, err = c.send(&queuepb.OpenPipeRequest{})
	if got, want := refusalOf(t, err, trailer), (refusal{codes.ResourceExhausted, "PIPE_QUOTA", "pipe"}); got != want {
		t.Errorf("OpenPipe over the quota: %v, want %v", got, want)
	}
	s := c.openSession(&queuepb.Hello{}, operationOf(1, large))
	if e := s.next(1).GetError(); e.GetReason() != "SERVER_OVERLOADED" || e.GetRetryAfter().AsDuration() <= 0 || e.GetOutcome() != queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED {
		t.Errorf("Enqueue over the memory limit in a session: %v, want SERVER_OVERLOADED, NOT_APPLIED and a time to wait", e)
	}
	second := must[grpc.BidiStreamingClient[queuepb.SessionRequest, queuepb.SessionResponse]](t)(c.Session(c.ctx))
	if err := second.Send(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1}}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if got, want := (&session{BidiStreamingClient: second, t: t}).end(), (refusal{codes.ResourceExhausted, "TENANT_QUOTA", ""}); got != want {
		t.Errorf("a second session: %v, want %v", got, want)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	s.end()
	c.openSession(&queuepb.Hello{}) // in the place of the first
}

// TestConnections: connections over the bounds are closed at once, and there is room again when one has gone.
func TestConnections(t *testing.T) {
	for name, limit := range map[string]func(*server.Config){
		"all":         func(cfg *server.Config) { cfg.MaxConnections = 3 },
		"per address": func(cfg *server.Config) { cfg.MaxConnectionsPerAddress = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			var log lockedBuffer
			bed := testbed.New(t, testbed.WithServer(limit), testbed.WithServer(func(cfg *server.Config) {
				cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			}))
			conns := make([]net.Conn, 3)
			for i := range conns {
				if conns[i] = greeted(t, bed.Addr); conns[i] == nil {
					t.Fatalf("connection %d was refused", i+1)
				}
			}
			before := bed.Broker.MemoryUsed()
			for range 3 {
				if over := greeted(t, bed.Addr); over != nil {
					t.Fatal("a fourth connection was taken")
				}
			}
			if n := strings.Count(log.String(), "connections are refused"); n != 1 {
				t.Errorf("%d lines in the log for three refused connections, want one", n)
			}
			if err := conns[0].Close(); err != nil {
				t.Fatal(err)
			}
			var next net.Conn
			for next == nil { // the server may not have noticed yet
				next = greeted(t, bed.Addr)
			}
			if used := bed.Broker.MemoryUsed(); used != before {
				t.Errorf("three connections count %d bytes now, %d before", used, before)
			}
			for _, conn := range append(conns[1:], next) {
				_ = conn.Close() // it is a client's
			}
		})
	}
}

// greeted connects, and waits for the first bytes that the server sends of its own; nil if it closes instead.
func greeted(t *testing.T, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err == nil {
		if _, err = conn.Read(make([]byte, 1)); err == nil {
			return conn
		}
	}
	_ = conn.Close() // refused
	return nil
}

// TestMemoryLog: the log says once that memory is short, and once that it is not any more.
func TestMemoryLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		c := newClient(t, testbed.InMemory(), testbed.WithBroker(func(cfg *broker.Config) { cfg.MemoryLimit = 1 << 20 }),
			testbed.WithServer(func(cfg *server.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
		for refused := error(nil); refused == nil; {
			_, refused = c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{Payload: make([]byte, 1<<10)}})
		}
		<-time.After(5 * time.Second)
		if n := strings.Count(log.String(), "memory is short: "); n != 1 {
			t.Errorf("%d lines say that memory is short, want one:\n%s", n, log.String())
		}
		admin := queuepb.NewAdminServiceClient(must[*grpc.ClientConn](t)(c.bed.Dial()))
		must[*queuepb.PurgeQueueResponse](t)(admin.PurgeQueue(c.ctx, &queuepb.PurgeQueueRequest{Name: "q"}))
		<-time.After(5 * time.Second)
		if n := strings.Count(log.String(), "memory is not short any more"); n != 1 {
			t.Errorf("%d lines say that it is not any more, want one:\n%s", n, log.String())
		}
	})
}
