package integration_test

import (
	"cmp"
	"os"
	"slices"
	"testing"
)

// compared measures something beside something else, in turns on the same machine. What else the machine does can spoil a
// measurement and not improve it: so one good one of three is enough. With the race detector in the server the figures mean
// nothing and are only shown.
func compared(t *testing.T, measure func(t *testing.T) (figures string, good bool)) {
	t.Helper()
	for try := 1; ; try++ {
		figures, good := measure(t)
		t.Log(figures)
		if good || os.Getenv("REPLYQ_RACE") != "" {
			return
		}
		if try == 3 {
			t.Errorf("not once in %d measurements: %s", try, figures)
			return
		}
	}
}

// median is the one in the middle.
func median[T cmp.Ordered](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
