package replica

import (
	"log/slog"
	"time"
)

// strayTime is how long nothing of what a replica writes is kept until it looks for another NATS server: longer than one is
// mostly elected to lead. The one that it is connected to may be cut off from the others, and does not say so.
const strayTime = 5 * time.Second

// stray connects to another NATS server when this one is of no use.
func (r *Replica) stray() {
	conn := r.cfg.Store.Conn()
	if r.election.silence() < strayTime || time.Since(r.strayed) < strayTime || !conn.IsConnected() {
		return
	}
	r.strayed = time.Now()
	r.cfg.Log.Warn("this NATS server keeps nothing of what it is sent: trying another one",
		slog.String("server", conn.ConnectedServerName()), slog.Duration("since", r.election.silence().Round(time.Millisecond)))
	if err := conn.ForceReconnect(); err != nil {
		r.cfg.Log.Warn("connecting to another NATS server", slog.Any("error", err))
	}
}
