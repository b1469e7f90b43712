package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// A record is a contestant's figures in one shape, as they stand in latest.json.
type record struct {
	Case        string  `json:"case"`
	System      string  `json:"system"`
	InFlight    int     `json:"in_flight"`
	Connections int     `json:"connections"`
	Payload     int     `json:"payload_bytes"`
	PerSecond   float64 `json:"per_second"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	CPU         float64 `json:"cpu_us_per_op"`
	ServerCPU   float64 `json:"server_cpu_us_per_op"`
	WorkerCPU   float64 `json:"worker_cpu_us_per_op"`
	CallerCPU   float64 `json:"caller_cpu_us_per_op"`
	// The low ones are the tenth percentiles over the rounds: what remains of the cost where others disturb least.
	ServerLow float64 `json:"server_cpu_us_per_op_low"`
	WorkerLow float64 `json:"worker_cpu_us_per_op_low"`
	CallerLow float64 `json:"caller_cpu_us_per_op_low"`

	Others float64 `json:"other_cpus"` // that other programs used meanwhile
	Runs   int     `json:"runs"`
	// Ratios are to other systems in the same shape and run, by "case/system".
	Ratios map[string]ratio `json:"ratios,omitempty"`
	Procs  int              `json:"gomaxprocs"`
	Go     string           `json:"go"`
}

// A ratio is the median of the ratios within each round, with the quartiles of them.
type ratio struct {
	PerSecond     float64 `json:"per_second"`
	PerSecondLow  float64 `json:"per_second_low"`
	PerSecondHigh float64 `json:"per_second_high"`
	P50           float64 `json:"p50"`
	P50Low        float64 `json:"p50_low"`
	P50High       float64 `json:"p50_high"`
	P99           float64 `json:"p99"`
	CPU           float64 `json:"cpu"`
}

// quantile is the q-th quantile of values; q is 0 to 1.
func quantile(values []float64, q float64) float64 {
	v := slices.Sorted(slices.Values(values))
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 >= len(v) {
		return v[len(v)-1]
	}
	return v[i] + (v[i+1]-v[i])*(at-float64(i))
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// each takes one figure out of every sample.
func each(samples []sample, figure func(*sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i := range samples {
		out[i] = figure(&samples[i])
	}
	return out
}

func perSecond(s *sample) float64 { return s.PerSecond }
func p50(s *sample) float64       { return float64(s.P50) / float64(time.Microsecond) }
func p99(s *sample) float64       { return float64(s.P99) / float64(time.Microsecond) }
func serverCPU(s *sample) float64 { return s.CPU.Server }
func workerCPU(s *sample) float64 { return s.CPU.Worker }
func callerCPU(s *sample) float64 { return s.CPU.Caller }
func totalCPU(s *sample) float64  { return s.CPU.total() }

// records makes the records of one shape.
func records(trios []*trio, procs int) []record {
	var out []record
	for _, t := range trios {
		r := record{
			Case: t.contestant.Case, System: t.contestant.label(),
			InFlight: t.shape.InFlight, Connections: t.shape.Connections, Payload: t.shape.Payload,
			PerSecond: median(each(t.samples, perSecond)),
			P50:       median(each(t.samples, p50)),
			P99:       median(each(t.samples, p99)),
			CPU:       median(each(t.samples, totalCPU)),
			ServerCPU: median(each(t.samples, serverCPU)),
			WorkerCPU: median(each(t.samples, workerCPU)),
			CallerCPU: median(each(t.samples, callerCPU)),
			ServerLow: quantile(each(t.samples, serverCPU), 0.1),
			WorkerLow: quantile(each(t.samples, workerCPU), 0.1),
			CallerLow: quantile(each(t.samples, callerCPU), 0.1),
			Others:    median(each(t.samples, func(s *sample) float64 { return s.Others })),
			Runs:      len(t.samples), Ratios: make(map[string]ratio), Procs: procs, Go: runtime.Version(),
		}
		for _, base := range trios {
			if base != t && isBase(base.contestant) {
				r.Ratios[base.contestant.name()] = compare(t.samples, base.samples)
			}
		}
		out = append(out, r)
	}
	return out
}

// isBase tells whether others are compared with a contestant.
func isBase(c *contestant) bool {
	return c.System == systemNATS || c.System == systemRequest || c.System == systemGRPCEcho
}

// compare makes the ratios of one contestant's samples to another's of the same rounds.
func compare(a, b []sample) ratio {
	of := func(figure func(*sample) float64) []float64 {
		out := make([]float64, len(a))
		for i := range a {
			out[i] = figure(&a[i]) / figure(&b[i])
		}
		return out
	}
	rate, half := of(perSecond), of(p50)
	return ratio{
		PerSecond: median(rate), PerSecondLow: quantile(rate, 0.25), PerSecondHigh: quantile(rate, 0.75),
		P50: median(half), P50Low: quantile(half, 0.25), P50High: quantile(half, 0.75),
		P99: median(of(p99)), CPU: median(of(totalCPU)),
	}
}

// writeRecords writes latest.json.
func writeRecords(folder string, all []record) error {
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "latest.json"), append(b, '\n'), 0o644) //nolint:gosec // no secret
}
