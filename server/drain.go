package server

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// Going down, and what has to end then.

// SetReady says whether clients had better come here than elsewhere: health checks are told SERVING, or NOT_SERVING. A server
// is ready until told otherwise, or shut down. A replica that relays finds out by itself whether it can.
func (s *Server) SetReady(ready bool) {
	s.mu.Lock()
	s.unready = !ready
	s.mu.Unlock()
	s.showHealth()
}

// showHealth tells health checks what is true now. A replica serves if it knows who does, and that one answers.
func (s *Server) showHealth() {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.placed.Load()
	status := servingStatus(!s.unready && p.known() && !p.lost.Load())
	for _, name := range healthNames {
		s.health.SetServingStatus(name, status)
	}
	if s.peers != nil {
		s.health.SetServingStatus(ownerHealth, servingStatus(!s.unready && p.tenure != nil))
	}
}

func servingStatus(serves bool) healthpb.HealthCheckResponse_ServingStatus {
	if serves {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// healthNames are the services that health checks ask about; the empty one is all.
var healthNames = []string{ //nolint:gochecknoglobals // read only
	"", queuepb.QueueService_ServiceDesc.ServiceName, queuepb.AdminService_ServiceDesc.ServiceName,
}

// stopLimit is how long streams have, after their end, to write their last messages.
const stopLimit = 5 * time.Second

// lastWords is how long they have once Shutdown's context has ended: enough to write why a stream ends.
const lastWords = time.Second

// Shutdown ends the server without losing what can be kept. It reports NOT_SERVING to health checks, refuses new work,
// tells sessions to finish what is under way, and waits until no consumer holds a delivery any more, or no stream is
// left, or two thirds of the context's time have passed (10 s if it has no deadline). Then it ends the broker's pipes
// (SHUTTING_DOWN) and all streams. When it returns no goroutine of the server is left; the broker is still to be closed.
// The context's end cuts the waiting short, but for a second in which streams write why they end. Calling it again
// waits for the first call.
//
// A server that relays takes no new streams from the beginning, nor connections: its clients go on at another replica, and
// only what streams already stays for that time.
func (s *Server) Shutdown(ctx context.Context) {
	if !s.startDrain(s.drainTime(ctx)) {
		<-s.stopped
		return
	}
	defer close(s.stopped)
	s.health.Shutdown()
	if t := s.placed.Load().tenure; t != nil {
		t.broker.Drain()
	}
	graceful := make(chan struct{})
	relays := s.placed.Load().tenure == nil
	if relays {
		s.leaveGracefully(graceful)
	}
	s.awaitDeliveries(ctx)
	if t := s.placed.Load().tenure; t != nil {
		t.broker.Shutdown() // each reader's End is in its stream's hands now, which stopping lets it write
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	if !relays {
		s.leaveGracefully(graceful)
	}
	s.stopGRPC(ctx, graceful)
	s.leaveOwner()
	s.background.Wait()
}

// awaitDeliveries waits until what consumers hold is settled. Since none get more, nothing can happen after that but
// replies without a lease, for which nobody can wait.
func (s *Server) awaitDeliveries(ctx context.Context) {
	limit := time.After(s.drainTime(ctx))
	look := time.NewTicker(drainPoll)
	defer look.Stop()
	for quiet := 0; quiet < 2; { // twice, so that answers that are on their way arrive
		select {
		case <-s.idle:
			return
		case <-limit:
			return
		case <-ctx.Done():
			return
		case <-look.C:
			quiet++
			if s.isBusy() {
				quiet = 0
			}
		}
	}
}

// isBusy reports whether consumers hold deliveries, or streams are relayed: what holds what, the owner knows.
func (s *Server) isBusy() bool {
	p := s.placed.Load()
	if p.tenure != nil {
		return p.tenure.broker.InFlight() > 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams > 0 || len(s.relayed) > 0 || s.asking.Load() > 0
}

// drainPoll is how often Shutdown looks whether deliveries are left.
const drainPoll = 100 * time.Millisecond

// drainTime is how long streams may still work.
func (s *Server) drainTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 10 * time.Second
	}
	return max(time.Until(deadline)*2/3, 0)
}

// startDrain tells all sessions to go. It returns false if that was done before.
func (s *Server) startDrain(grace time.Duration) bool {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return false
	}
	s.draining = true
	s.idle = make(chan struct{})
	open := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		open = append(open, ss)
	}
	for rs := range s.relayed {
		s.background.Go(func() { rs.goAway(grace) })
	}
	s.closeIfIdleLocked()
	s.mu.Unlock()
	s.log.Info("draining", slog.Int("sessions", len(open)), slog.Duration("limit", grace))
	for _, ss := range open {
		ss.goAway(grace)
	}
	return true
}

// leaveGracefully tells all clients to use other connections from now on. It closes done when no stream is left.
func (s *Server) leaveGracefully(done chan<- struct{}) {
	s.background.Go(func() {
		defer close(done)
		s.grpc.GracefulStop()
	})
}

// stopGRPC waits for the handlers, and after a while not any more.
func (s *Server) stopGRPC(ctx context.Context, graceful <-chan struct{}) {
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-graceful:
		return
	case <-limit.C:
	case <-ctx.Done():
		limit.Reset(lastWords)
		select {
		case <-graceful:
			return
		case <-limit.C:
		}
	}
	s.grpc.Stop()
}

const textGoingAway = "the server is going down: finish what is under way, and come back elsewhere"

// goAway asks the client to finish and come back elsewhere.
func (ss *session) goAway(grace time.Duration) {
	ss.mu.Lock()
	ss.goingAway = &queuepb.GoingAway{
		Message: textGoingAway,
		Grace:   durationpb.New(grace),
	}
	ss.mu.Unlock()
	ss.wake()
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// addSession registers a session. It returns false if all streams were told to end.
func (s *Server) addSession(ss *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sessions[ss] = struct{}{}
	if s.draining { // it may still fetch results, and settle
		defer ss.goAway(0)
	}
	return true
}

func (s *Server) removeSession(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ss)
	s.closeIfIdleLocked()
}

// plainStreamSize is about what a plain RPC takes that streams.
const plainStreamSize = 24 << 10

// addStream counts plain RPCs that stream.
func (s *Server) addStream(n int) {
	s.hold(int64(n) * plainStreamSize)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += n
	s.closeIfIdleLocked()
}

// closeIfIdleLocked tells Shutdown that nothing is left to wait for.
func (s *Server) closeIfIdleLocked() {
	if s.idle == nil || s.streams > 0 || len(s.sessions) > 0 || len(s.relayed) > 0 {
		return
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// watch is the watchdog. gRPC's Send has no deadline, so it ends sessions whose clients give credit and do not read;
// and it tells the broker of Ends that were written to sessions which submit nothing that could bring the word along. It
// also tells people when memory gets short.
func (s *Server) watch() {
	var memory memoryWatch
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for _, ss := range s.openSessions() {
				if began := ss.sending.Load(); began != 0 && now.Sub(time.Unix(0, began)) > sendLimit {
					ss.finish(errSlowConsumer())
				}
				if ss.hasPassed() {
					ss.flushPassed()
				}
			}
			s.endSlowRelayed(now)
			memory.look(s)
		case <-s.stopping:
			return
		}
	}
}

// endSlowRelayed does for sessions that are relayed what watch does for others: nobody knows whether the owner can.
func (s *Server) endSlowRelayed(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rs := range s.relayed {
		if began := rs.sending.Load(); began != 0 && now.Sub(time.Unix(0, began)) > sendLimit {
			rs.finish(errSlowConsumer())
		}
	}
}

func (s *Server) openSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.sessions))
}

func (ss *session) hasPassed() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.passed) > 0
}
