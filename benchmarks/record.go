package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// A record is one measurement, as it stands in latest.json. Cases that measure other things than rates have further
// fields, and leave those at 0 that they know nothing of.
type record struct {
	Case        string  `json:"case"`
	System      string  `json:"system"`
	InFlight    int     `json:"in_flight"`
	Connections int     `json:"connections"`
	Payload     int     `json:"payload_bytes"`
	Text        bool    `json:"json_payload,omitempty"`
	PerSecond   float64 `json:"per_second"` // answers; messages where there are none
	P50         float64 `json:"p50_us"`     // of a request, with all its answers
	P99         float64 `json:"p99_us"`
	CPU         float64 `json:"cpu_us_per_op"` // an answer, as in per_second
	ServerCPU   float64 `json:"server_cpu_us_per_op"`
	NodesCPU    float64 `json:"nodes_cpu_us_per_op,omitempty"` // of the server's, that the NATS nodes took
	WorkerCPU   float64 `json:"worker_cpu_us_per_op"`
	CallerCPU   float64 `json:"caller_cpu_us_per_op"`
	// The low ones are the tenth percentiles over the rounds: what remains of the cost where others disturb least.
	ServerLow float64 `json:"server_cpu_us_per_op_low"`
	WorkerLow float64 `json:"worker_cpu_us_per_op_low"`
	CallerLow float64 `json:"caller_cpu_us_per_op_low"`

	Answers int `json:"answers_per_request,omitempty"` // if not one
	Rate    int `json:"offered_per_second,omitempty"`  // in an open loop

	Heap     int64 `json:"server_heap_bytes,omitempty"` // with garbage that is not collected yet
	Resident int64 `json:"server_resident_bytes,omitempty"`

	// What was measured, of cases that measure several things, and of how many.
	What  string `json:"what,omitempty"`
	Count int    `json:"count,omitempty"`
	// Bytes that each of them costs, above its payload, after a collection.
	HeapEach     float64 `json:"heap_bytes_each,omitempty"`
	ResidentEach float64 `json:"resident_bytes_each,omitempty"`
	HeldEach     float64 `json:"resident_bytes_each_before_release,omitempty"`

	// Bytes of files of a store on disk, in the end and at most, and seconds from a start, or kill, to the first delivery.
	Store        int64   `json:"store_bytes,omitempty"`
	LargestStore int64   `json:"largest_store_bytes,omitempty"`
	Recovery     float64 `json:"recovery_s,omitempty"`
	// Seconds that a steady caller waited at most in a round: of the rounds the median, and the longest.
	Wait        float64 `json:"wait_s,omitempty"`
	LongestWait float64 `json:"longest_wait_s,omitempty"`

	Others float64 `json:"other_cpus"` // that other programs used meanwhile
	Runs   int     `json:"runs"`
	// Ratios are to other systems in the same shape and run, by "case/system".
	Ratios map[string]comparison `json:"ratios,omitempty"`
	Procs  int                   `json:"gomaxprocs"`
	Go     string                `json:"go"`
}

// A comparison has the ratios to another system, and their intervals.
type comparison struct {
	PerSecond     float64 `json:"per_second"`
	PerSecondLow  float64 `json:"per_second_low"`
	PerSecondHigh float64 `json:"per_second_high"`
	P50           float64 `json:"p50"`
	P50Low        float64 `json:"p50_low"`
	P50High       float64 `json:"p50_high"`
	P99           float64 `json:"p99"`
	P99Low        float64 `json:"p99_low"`
	P99High       float64 `json:"p99_high"`
	CPU           float64 `json:"cpu"`
	ServerCPU     float64 `json:"server_cpu"`
	ServerCPULow  float64 `json:"server_cpu_low"`
	ServerCPUHigh float64 `json:"server_cpu_high"`
	Pairs         int     `json:"pairs"`
}

// figures takes one figure out of every sample.
func figures(samples []sample, figure func(*sample) float64) []float64 {
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

// trioRecords makes the records of one shape.
func trioRecords(trios []*trio, procs int) []record {
	var out []record
	for _, t := range trios {
		r := newRecord(t, procs)
		for _, base := range trios {
			if slices.Contains(t.contestant.versus, base.contestant.label()) {
				r.Ratios[base.name()] = compare(t.samples, base.samples)
			}
		}
		out = append(out, r)
	}
	return out
}

func newRecord(t *trio, procs int) record {
	middle := func(figure func(*sample) float64) float64 { return median(figures(t.samples, figure)) }
	low := func(figure func(*sample) float64) float64 { return quantile(figures(t.samples, figure), 0.1) }
	r := record{
		NodesCPU: middle(func(s *sample) float64 { return s.Nodes }),
		Case:     t.of.Name, System: t.contestant.label(),
		InFlight: t.shape.InFlight, Connections: t.shape.Connections, Payload: t.shape.Payload, Text: t.shape.Text,
		Answers: t.shape.Answers, Rate: t.shape.Rate,
		PerSecond: middle(perSecond), P50: middle(p50), P99: middle(p99),
		CPU: middle(totalCPU), ServerCPU: middle(serverCPU), WorkerCPU: middle(workerCPU), CallerCPU: middle(callerCPU),
		ServerLow: low(serverCPU), WorkerLow: low(workerCPU), CallerLow: low(callerCPU),
		Others: middle(func(s *sample) float64 { return s.Others }),
		Runs:   len(t.samples), Ratios: make(map[string]comparison), Procs: procs, Go: runtime.Version(),
	}
	if n := len(t.samples); n > 0 {
		r.Heap, r.Resident = t.samples[n-1].Memory.Heap, t.samples[n-1].Memory.Resident
	}
	return r
}

// compare makes the ratios of one system's samples to another's of the same rounds.
func compare(a, b []sample) comparison {
	of := func(figure func(*sample) float64) ratio { return ratioOf(figures(a, figure), figures(b, figure)) }
	rate, half, tail, cpu := of(perSecond), of(p50), of(p99), of(serverCPU)
	return comparison{
		PerSecond: rate.Median, PerSecondLow: rate.Low, PerSecondHigh: rate.High,
		P50: half.Median, P50Low: half.Low, P50High: half.High,
		P99: tail.Median, P99Low: tail.Low, P99High: tail.High,
		ServerCPU: cpu.Median, ServerCPULow: cpu.Low, ServerCPUHigh: cpu.High,
		CPU: of(totalCPU).Median, Pairs: rate.Pairs,
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
