package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// What an event says.
const (
	Sent      = "sent"      // a producer begins to send a message
	Accepted  = "accepted"  // the server has confirmed it
	Refused   = "refused"   // the server has not done it
	Unknown   = "unknown"   // it may have done it
	Delivered = "delivered" // a consumer has got a message
	Corrupt   = "corrupt"   // a consumer has got something that was never sent
	Settling  = "settling"  // a consumer begins to settle a delivery
	Settled   = "settled"   // that went as Output says
	Waits     = "waits"     // somebody begins to wait for an answer
	Ended     = "ended"     // that is over; Reason says how, OK for the right answer
	Crashed   = "crashed"   // the server has been killed, or the power cut
	Back      = "back"      // it is about to start again: what it said before has been noted
	Left      = "left"      // a message is still there at the end; Reason is its state
	HasQueue  = "has queue" // a queue is there at the end
)

// An Event is one line of a history. Which fields it has depends on What.
type Event struct {
	At   time.Duration // since the history began
	What string
	Op   int `json:",omitempty"` // pairs the beginning of an operation with its end, from 1

	ID      ID     `json:",omitzero"`
	Queue   string `json:",omitempty"`
	Message string `json:",omitempty"` // its id
	Attempt uint32 `json:",omitempty"`
	By      string `json:",omitempty"` // the consumer
	Kind    string `json:",omitempty"` // how it is settled: Ack, Retry or Reject
	Output  Output `json:",omitzero"`
	Reason  string `json:",omitempty"`
}

// A History is a list of events in the order in which they were noted. It is safe for use by many goroutines.
type History struct {
	began time.Time

	mu     sync.Mutex
	events []Event
	ops    int
}

// New begins a history.
func New() *History { return &History{began: time.Now()} }

// Note adds an event.
func (h *History) Note(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteLocked(e)
}

func (h *History) noteLocked(e Event) {
	e.At = time.Since(h.began)
	h.events = append(h.events, e)
}

// Begin adds an event that begins an operation; what it returns adds the one that ends it, which says what the first one
// does and What, Output, Reason and Message.
func (h *History) Begin(e Event) (end func(Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops++
	e.Op = h.ops
	h.noteLocked(e)
	return func(end Event) {
		e := e
		e.What, e.Output, e.Reason = end.What, end.Output, end.Reason
		e.Message = cmp.Or(end.Message, e.Message)
		h.Note(e)
	}
}

// Events returns what was noted so far.
func (h *History) Events() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events[:len(h.events):len(h.events)]
}

// Write writes the history as lines of JSON.
func (h *History) Write(w io.Writer) error {
	out := json.NewEncoder(w)
	for _, e := range h.Events() {
		if err := out.Encode(e); err != nil {
			return fmt.Errorf("write the history: %w", err)
		}
	}
	return nil
}
