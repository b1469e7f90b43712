// Package histogram counts values by their size: journals tell with it how large batches are and how long appends take.
package histogram

import (
	"math/bits"
	"sync/atomic"
)

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

// A Counter makes a histogram. Its methods may be called from any goroutine.
type Counter struct {
	counts [65]atomic.Uint64
	sum    atomic.Uint64
}

// Add counts a value.
func (c *Counter) Add(v uint64) {
	c.counts[bits.Len64(v)].Add(1)
	c.sum.Add(v)
}

// Load returns what was counted.
func (c *Counter) Load() Histogram {
	var out Histogram
	for i := range c.counts {
		out.Counts[i] = c.counts[i].Load()
	}
	out.Sum = c.sum.Load()
	return out
}
