package histogram_test

import (
	"testing"

	"github.com/replyq/replyq/internal/histogram"
)

func TestHistogram(t *testing.T) {
	var c histogram.Counter
	if got := c.Load().Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %d, want 0", got)
	}
	c.Add(0)
	earlier := c.Load()
	for v := uint64(1); v <= 100; v++ {
		c.Add(v)
	}
	c.Add(1<<64 - 1)
	h := c.Load().Since(earlier)
	if h.Counts[0] != 0 || h.Counts[1] != 1 || h.Counts[2] != 2 || h.Counts[64] != 1 || h.Count() != 101 {
		t.Errorf("counts: %v", h.Counts)
	}
	if h.Sum != 5049 { // 1 to 100, and one that is -1
		t.Errorf("the sum is %d, want 5049", h.Sum)
	}
	if p50, all := h.Quantile(0.5), h.Quantile(1); p50 != 63 || all != 1<<64-1 {
		t.Errorf("the median is at most %d and all are at most %d; want 63 and all ones", p50, all)
	}
}
