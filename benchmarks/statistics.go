package main

import "slices"

// quantile is the q-th quantile of values; q is 0 to 1. Of no values it is 0.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 >= len(v) {
		return v[len(v)-1]
	}
	return v[i] + (v[i+1]-v[i])*(at-float64(i))
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// confidence is that of all intervals.
const confidence = 0.95

// medianInterval returns the narrowest interval, from one value to another, that holds the median of what the values
// were drawn from with the confidence asked for, whatever their distribution: how many of n values lie below the median
// is binomial with a half. Under six values none is that sure; the interval is then all of them.
func medianInterval(values []float64) (low, high float64) {
	n := len(values)
	if n == 0 {
		return 0, 0
	}
	v := slices.Sorted(slices.Values(values))
	k := intervalRank(n)
	return v[k], v[n-1-k]
}

// intervalRank is the largest k for which the interval from the k-th to the k-th last of n sorted values, counted from 0,
// has the confidence.
func intervalRank(n int) int {
	tail, term := 0.0, 1.0 // the chance that at most k values lie below the median; that exactly k do
	for range n {
		term /= 2
	}
	k := 0
	for ; k < n/2; k++ {
		if tail += term; 2*tail > 1-confidence {
			break
		}
		term *= float64(n-k) / float64(k+1)
	}
	return max(0, k-1)
}

// A ratio compares paired figures: the median of the ratios within the pairs, and the interval of that.
type ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Pairs  int     `json:"pairs"`
}

// ratioOf makes the ratio of a to b, which were measured in pairs. A pair without a figure is left out.
func ratioOf(a, b []float64) ratio {
	var all []float64
	for i := range min(len(a), len(b)) {
		if a[i] > 0 && b[i] > 0 {
			all = append(all, a[i]/b[i])
		}
	}
	low, high := medianInterval(all)
	return ratio{Median: median(all), Low: low, High: high, Pairs: len(all)}
}
