package main

import (
	"math/rand/v2"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{"none", nil, 0.5, 0},
		{"one", []float64{3}, 0.99, 3},
		{"odd", []float64{9, 1, 5}, 0.5, 5},
		{"even", []float64{4, 1, 3, 2}, 0.5, 2.5},
		{"low", []float64{0, 10}, 0.1, 1},
		{"highest", []float64{1, 2, 3}, 1, 3},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("%s: quantile(%v, %v) = %v, want %v", c.name, c.values, c.q, got, c.want)
		}
	}
}

// The ranks are those of the tables of the sign test, counted from 0.
func TestIntervalRank(t *testing.T) {
	for n, want := range map[int]int{1: 0, 5: 0, 6: 0, 8: 0, 9: 1, 11: 1, 12: 2, 21: 5, 25: 7, 50: 17, 101: 40} {
		if got := intervalRank(n); got != want {
			t.Errorf("intervalRank(%d) = %d, want %d", n, got, want)
		}
	}
}

// The interval holds the true median about as often as it says, of a distribution that is far from normal.
func TestMedianIntervalCovers(t *testing.T) {
	const seed, runs, trueMedian = 7, 4000, 0.6931471805599453 // of the exponential distribution
	r := rand.New(rand.NewPCG(seed, seed))
	for _, n := range []int{6, 21, 60} {
		held := 0
		for range runs {
			values := make([]float64, n)
			for i := range values {
				values[i] = r.ExpFloat64()
			}
			if low, high := medianInterval(values); low <= trueMedian && trueMedian <= high {
				held++
			}
		}
		if got := float64(held) / runs; got < 0.945 || got > 0.99 {
			t.Errorf("the interval of %d values held the median in %.3f of the runs, want 0.95 to 0.98 (seed %d)", n, got, seed)
		}
	}
}

func TestRatioOfPairs(t *testing.T) {
	got := ratioOf([]float64{10, 0, 30, 80}, []float64{10, 5, 10, 20, 7})
	want := ratio{Median: 3, Low: 1, High: 4, Pairs: 3}
	if got != want {
		t.Errorf("ratioOf = %+v, want %+v", got, want)
	}
	if got := ratioOf(nil, nil); got != (ratio{}) {
		t.Errorf("ratioOf nothing = %+v, want none", got)
	}
}
