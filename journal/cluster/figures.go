package cluster

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/internal/histogram"
)

// Figures are counts since the store was opened.
type Figures struct {
	Batches uint64 // appended and kept
	Bytes   uint64 // in these batches
	// Messages and Sent are messages that were sent to NATS and the bytes in them: of batches, whole or in parts, of take-overs
	// and of trimming, and what had no answer again.
	Messages, Sent uint64
	// Latency is of appends, in nanoseconds, and Size of batches, in bytes.
	Latency, Size histogram.Histogram
}

// epoch is what times are counted from, so that they follow no clock that is set.
var epoch = time.Now() //nolint:gochecknoglobals // read only

type counts struct {
	sizes, latencies histogram.Counter
	messages, sent   atomic.Uint64
	last             atomic.Int64 // when an append was kept last, since epoch; 0: none was
}

func (c *counts) appended(size int, began time.Time) {
	c.sizes.Add(uint64(size)) //nolint:gosec // never negative
	now := time.Now()
	c.latencies.Add(uint64(now.Sub(began)))
	c.last.Store(int64(now.Sub(epoch)))
}

func (c *counts) published(size int) {
	c.messages.Add(1)
	c.sent.Add(uint64(size)) //nolint:gosec // never negative
}

// Figures returns what the store has appended since it was opened.
func (s *Store) Figures() Figures {
	f := Figures{Latency: s.counts.latencies.Load(), Size: s.counts.sizes.Load()}
	f.Batches, f.Bytes = f.Size.Count(), f.Size.Sum
	f.Messages, f.Sent = s.counts.messages.Load(), s.counts.sent.Load()
	return f
}

// Silence is how long no batch was kept; since the beginning of time if none ever was.
func (s *Store) Silence() time.Duration {
	last := s.counts.last.Load()
	if last == 0 {
		return math.MaxInt64
	}
	return time.Since(epoch) - time.Duration(last)
}

// A Space is what the stream takes.
type Space struct {
	Bytes    uint64 // of all shards, in each of the stream's replicas
	Messages uint64 // that these are in
	Limit    uint64 // bytes that the stream may have at most; 0: it has no limit of its own
}

// Space asks the stream's leader.
func (s *Store) Space(ctx context.Context) (Space, error) {
	info, err := s.info(ctx)
	if err != nil {
		return Space{}, err
	}
	return Space{Bytes: info.State.Bytes, Messages: info.State.Msgs, Limit: uint64(max(info.Config.MaxBytes, 0))}, nil
}
