package replica

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/replyq/replyq/journal/cluster"
)

const (
	// strayTime is how long nothing of what a replica writes is kept until it looks for another NATS server: the one that it is
	// connected to may be cut off from the others, or hang, and neither says so. It is shorter than a lease, so that the owner
	// finds one before it loses its claim.
	strayTime = time.Second
	// blindTime is how long that is until it connects to any other server, if none takes a second connection to be tried by:
	// servers may allow so many and no more.
	blindTime = 5 * time.Second
	// strayPause is how long it does not look again when it has found none.
	strayPause = 250 * time.Millisecond
)

// stray connects to another NATS server when this one is of no use, and another one is. While a leader is being elected none
// is.
func (r *Replica) stray() {
	timer := time.NewTimer(strayTime)
	defer timer.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-timer.C:
		}
		wait := r.election.times.look
		m := r.election.last.Load()
		if silence := r.election.silence(); silence >= strayTime && m != nil && r.cfg.Store.Conn().IsConnected() {
			if wait = strayPause; r.lookAround(silence, *m) {
				wait = strayTime
			}
		}
		timer.Reset(wait)
	}
}

// lookAround tells of this replica over each NATS server, as it did last, and stays with the first one that keeps it. It
// reports whether there is one.
func (r *Replica) lookAround(silence time.Duration, m Member) bool {
	ctx, cancel := context.WithTimeout(r.ctx, r.election.times.try)
	defer cancel()
	from := r.cfg.Store.Conn().ConnectedServerName()
	to, err := r.cfg.Store.Switch(ctx, func(ctx context.Context, conn *nats.Conn) error { return r.bucket.tellOver(ctx, conn, m) })
	switch {
	case errors.Is(err, cluster.ErrNoVisit):
		return silence >= blindTime && r.moveOn(from, silence)
	case err != nil:
		r.cfg.Log.Warn("connecting to another NATS server", slog.Any("error", err))
	case to != "":
		r.cfg.Log.Warn("a NATS server kept nothing of what it was sent: connecting to one that does",
			slog.String("from", from), slog.String("to", to), slog.Duration("after", rounded(silence)))
	}
	return to != ""
}

// moveOn connects to another server, whichever that is. It reports whether that is under way.
func (r *Replica) moveOn(from string, silence time.Duration) bool {
	r.cfg.Log.Warn("a NATS server kept nothing of what it was sent, and none takes a second connection: connecting to any other",
		slog.String("from", from), slog.Duration("after", rounded(silence)))
	if err := r.cfg.Store.Conn().ForceReconnect(); err != nil {
		r.cfg.Log.Warn("connecting to another NATS server", slog.Any("error", err))
		return false
	}
	return true
}
