package server

import (
	"context"
	"time"

	"github.com/replyq/replyq/broker"
)

// A tenure is the time in which a server serves one broker. A call keeps the one in which it began. Without [Config.Peers]
// there is one tenure, as long as the server.
type tenure struct {
	broker *broker.Broker
	now    func() time.Time
	// stopping is closed when what the broker has accepted is answered, and streams have to end: with the server or, with
	// several replicas, when another one serves.
	stopping <-chan struct{}
	end      context.CancelFunc
}

func (s *Server) newTenure(b *broker.Broker) *tenure {
	t := &tenure{broker: b, now: s.clock}
	if t.now == nil {
		t.now = b.Now
	}
	ctx, end := context.WithCancel(s.running)
	t.stopping, t.end = ctx.Done(), end
	return t
}

// over is why a call ends when its tenure does.
func (s *Server) over() *broker.Error {
	if s.running.Err() != nil {
		return errDraining()
	}
	return errOwnerChanged()
}

type tenureKey struct{}

// tenureOf is the tenure that a call belongs to. It is never nil: where it may change, the call's context has it.
func (s *Server) tenureOf(ctx context.Context) *tenure {
	if s.peers != nil {
		if t, ok := ctx.Value(tenureKey{}).(*tenure); ok {
			return t
		}
	}
	return s.placed.Load().tenure
}
