package server

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of health checks
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// A replica that relays is of use while the owner answers it, whatever else it hears. So it asks.

// ownerHealth is what health checks ask for to learn whether a replica itself serves, and is well.
const ownerHealth = "replyq.owner"

const (
	// askOwner is how often a replica asks the one that it relays to, and how long it waits for the answer.
	askOwner = time.Second
	// ownerLost is how long it gets no good answer until it is not ready any more.
	ownerLost = 5 * time.Second
)

// askAfter asks, until calls are served elsewhere, whether the owner at a place serves.
func (s *Server) askAfter(p *place) {
	ticker := time.NewTicker(askOwner)
	defer ticker.Stop()
	heard := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-p.changed:
			return
		case <-s.running.Done():
			return
		}
		if p.owner.serves() {
			heard = time.Now()
		}
		if lost := time.Since(heard) > ownerLost; lost != p.lost.Load() {
			p.lost.Store(lost)
			s.showHealth()
			s.tellLost(p)
		}
	}
}

func (s *Server) tellLost(p *place) {
	level, text := slog.LevelInfo, "the replica that serves answers again: this one is ready"
	if p.lost.Load() {
		level, text = slog.LevelWarn, "the replica that serves does not answer, or is not well: this one is not ready"
	}
	s.log.LogAttrs(s.running, level, text, slog.String("owner", p.owner.address))
}

// serves asks the owner whether it is, and is well.
func (o *owner) serves() bool {
	conn, err := o.enter()
	if err != nil {
		return false
	}
	defer o.leave(conn)
	ctx, cancel := context.WithTimeout(o.ctx, askOwner)
	defer cancel()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: ownerHealth},
		grpc.ForceCodecV2(encoding.GetCodecV2("proto")))
	return err == nil && res.Status == healthpb.HealthCheckResponse_SERVING
}
