package cluster

import (
	"context"
	"time"

	"github.com/replyq/replyq/internal/histogram"
)

// Figures are counts since the store was opened.
type Figures struct {
	Batches uint64 // appended and kept
	Bytes   uint64 // in these batches
	// Latency is of appends, in nanoseconds, and Size of batches, in bytes.
	Latency, Size histogram.Histogram
}

type counts struct{ sizes, latencies histogram.Counter }

func (c *counts) appended(size int, began time.Time) {
	c.sizes.Add(uint64(size)) //nolint:gosec // never negative
	c.latencies.Add(uint64(time.Since(began)))
}

// Figures returns what the store has appended since it was opened.
func (s *Store) Figures() Figures {
	f := Figures{Latency: s.counts.latencies.Load(), Size: s.counts.sizes.Load()}
	f.Batches, f.Bytes = f.Size.Count(), f.Size.Sum
	return f
}

// A Space is what the stream takes.
type Space struct {
	Bytes uint64 // of all shards, in each of the stream's replicas
	Limit uint64 // what the stream may have at most; 0: it has no limit of its own
}

// Space asks the stream's leader.
func (s *Store) Space(ctx context.Context) (Space, error) {
	info, err := s.info(ctx)
	if err != nil {
		return Space{}, err
	}
	return Space{Bytes: info.State.Bytes, Limit: uint64(max(info.Config.MaxBytes, 0))}, nil
}
