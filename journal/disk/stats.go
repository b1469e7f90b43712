package disk

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Stats are counts since the store was opened.
type Stats struct {
	Batches uint64 // appended and kept
	Bytes   uint64 // in these batches
	Written uint64 // bytes written to files: each batch once into a log, and into tables as often as it is rewritten
	Fsyncs  uint64 // of all files
	// Latency is of appends, in nanoseconds, and Size of batches, in bytes.
	Latency, Size Histogram
}

// A Histogram counts values by their size in bits: Counts[i] are those below 2^i that are in no earlier count.
type Histogram struct {
	Counts [65]uint64
	Sum    uint64
}

// Count returns how many values there are.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Since returns the values that came after an earlier state of the same histogram.
func (h Histogram) Since(earlier Histogram) Histogram {
	for i := range h.Counts {
		h.Counts[i] -= earlier.Counts[i]
	}
	h.Sum -= earlier.Sum
	return h
}

// Quantile returns a value that the given share of values, 0 to 1, does not exceed: at most twice too high. Quantile(1) is
// a bound of them all.
func (h Histogram) Quantile(share float64) uint64 {
	want := uint64(share * float64(h.Count()))
	var n uint64
	for i, c := range h.Counts {
		if n += c; n >= want && n > 0 {
			return 1<<i - 1
		}
	}
	return 0
}

type histogram struct {
	counts [65]atomic.Uint64
	sum    atomic.Uint64
}

func (h *histogram) add(v uint64) {
	h.counts[bits.Len64(v)].Add(1)
	h.sum.Add(v)
}

func (h *histogram) load() Histogram {
	var out Histogram
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	out.Sum = h.sum.Load()
	return out
}

func (s *Store) count(size int, began time.Time) {
	s.sizes.add(uint64(size))
	s.latencies.add(uint64(time.Since(began)))
}

// Stats returns what the store has done since it was opened.
func (s *Store) Stats() Stats {
	st := Stats{Latency: s.latencies.load(), Size: s.sizes.load()}
	st.Batches, st.Bytes = st.Size.Count(), st.Size.Sum
	st.Written, st.Fsyncs = s.gate.written.Load(), s.gate.syncs.Load()
	return st
}
