package main

import (
	"cmp"
	"fmt"
	"strings"
)

// A shape is one way to load a system.
type shape struct {
	InFlight    int
	Connections int  // of the caller; the worker has one, unless -worker-connections or the system says otherwise
	Payload     int  // bytes of each answer, and of each request unless Request says otherwise
	Text        bool `json:",omitempty"` // the filler is a record in JSON, which compresses
	Request     int  `json:",omitempty"`
	Answers     int  `json:",omitempty"` // to each request; 0 stands for 1
	Rate        int  `json:",omitempty"` // requests per second of an open load; 0 for a closed one

	// Rounds is how often it is measured at least.
	Rounds int `json:",omitempty"`
}

func (s shape) answers() int      { return cmp.Or(s.Answers, 1) }
func (s shape) requestBytes() int { return cmp.Or(s.Request, s.Payload) }

// withPayload is the shape with another size. Where a request has many answers, a stream has no more than 32 MiB.
func (s shape) withPayload(n int) shape {
	s.Payload = n
	if s.Request > 0 {
		s.Answers = min(s.Answers, max(1, 32<<20/n))
	}
	return s
}

// String is the shape in headings.
func (s shape) String() string {
	var b strings.Builder
	b.WriteString(bytesText(s.Payload))
	if s.Text {
		b.WriteString(" of JSON")
	}
	if s.Answers > 1 {
		fmt.Fprintf(&b, ", %d to a request", s.Answers)
	}
	if s.Rate > 0 {
		fmt.Fprintf(&b, ", %d requests/s, at most", s.Rate)
	} else {
		b.WriteString(",")
	}
	fmt.Fprintf(&b, " %d in flight, %s", s.InFlight, plural(s.Connections, "connection"))
	return b.String()
}

// textSuffix marks a shape whose payloads are JSON.
const textSuffix = "-json"

// short is the shape on command lines and in names of files.
func (s shape) short() string {
	short := fmt.Sprintf("%dx%d", s.InFlight, s.Connections)
	if s.Text {
		short += textSuffix
	}
	return short
}

func bytesText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// pairs is how many rounds latencies are compared over, where they are what counts.
const pairs = 21

// The shapes that several cases have.
var (
	one  = shape{InFlight: 1, Connections: 1, Payload: 128, Rounds: pairs}
	some = shape{InFlight: 64, Connections: 1, Payload: 128}
	many = shape{InFlight: 256, Connections: 4, Payload: 128}
)

// callShapes are those of request/reply, by sessions and by plain RPCs.
func callShapes(quick bool) []shape {
	if quick {
		return []shape{one, some, many}
	}
	return []shape{
		one, some, many,
		{InFlight: 64, Connections: 4, Payload: 128},
		{InFlight: 256, Connections: 1, Payload: 128},
		{InFlight: 4096, Connections: 1, Payload: 128},
		{InFlight: 4096, Connections: 4, Payload: 128},
		{InFlight: 1, Connections: 1, Payload: 16 << 10},
		{InFlight: 64, Connections: 4, Payload: 16 << 10},
		// One on each connection: more could fill the buffers of a relay both ways, and stop it.
		{InFlight: 4, Connections: 4, Payload: 1 << 20},
	}
}
