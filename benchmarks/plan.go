package main

import (
	"fmt"
	"time"
)

// A shape is one way to load a system.
type shape struct {
	InFlight    int
	Connections int // of the caller; the worker has one, unless -worker-connections says otherwise
	Payload     int
}

func (s shape) String() string {
	return fmt.Sprintf("%d B, %d in flight, %s", s.Payload, s.InFlight, plural(s.Connections, "connection"))
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// A plan is what a run measures: the shapes, and how often and how long each.
type plan struct {
	Shapes []shape
	Rounds int
	Slice  time.Duration // of one measurement
	Warmup time.Duration // of each system, once per shape
}

// The shapes of request/reply and of plain calls.
var (
	one  = shape{InFlight: 1, Connections: 1, Payload: 128}
	some = shape{InFlight: 64, Connections: 1, Payload: 128}
	many = shape{InFlight: 256, Connections: 4, Payload: 128}
)

// quickPlan takes under a minute, fullPlan under ten.
func quickPlan() plan {
	return plan{Shapes: []shape{one, some, many}, Rounds: 5, Slice: 300 * time.Millisecond, Warmup: 200 * time.Millisecond}
}

func fullPlan() plan {
	return plan{Shapes: []shape{one, some, many}, Rounds: 21, Slice: 600 * time.Millisecond, Warmup: time.Second}
}
