package replica

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// joinTold is the time between two lines of the log that say what a replica waits for that joins.
const joinTold = 2 * time.Second

// first reads the claim for the first time. It waits for a cluster that does not answer yet, such as one whose bucket another
// replica has just made, for as long as ctx lets it.
func first(ctx context.Context, r register, t times, log *slog.Logger) (claim, error) {
	ticker := time.NewTicker(t.look)
	defer ticker.Stop()
	told := time.Time{}
	for {
		trying, cancel := context.WithTimeout(ctx, t.try)
		c, _, err := r.read(trying)
		cancel()
		if err == nil || errors.Is(err, errFormat) || ctx.Err() != nil {
			return c, err //nolint:wrapcheck // by the caller
		}
		if time.Since(told) >= joinTold {
			told = time.Now()
			log.Info("waiting for NATS", slog.Any("error", err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}
