package disk

import (
	"time"

	"github.com/replyq/replyq/internal/histogram"
)

// Stats are counts since the store was opened.
type Stats struct {
	Batches uint64 // appended and kept
	Bytes   uint64 // in these batches
	Written uint64 // bytes written to files: each batch once into a log, and into tables as often as it is rewritten
	Fsyncs  uint64 // of all files
	// Latency is of appends, in nanoseconds, and Size of batches, in bytes.
	Latency, Size histogram.Histogram
}

func (s *Store) count(size int, began time.Time) {
	s.sizes.Add(uint64(size))
	s.latencies.Add(uint64(time.Since(began)))
}

// Stats returns what the store has done since it was opened.
func (s *Store) Stats() Stats {
	st := Stats{Latency: s.latencies.Load(), Size: s.sizes.Load()}
	st.Batches, st.Bytes = st.Size.Count(), st.Size.Sum
	st.Written, st.Fsyncs = s.gate.written.Load(), s.gate.syncs.Load()
	return st
}
