package integration_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// An event is a line that a program prints, in whichever language it is written.
type event struct {
	// Event is its kind: receipt, attached, reply, end and status of a producer or waiter; started, delivery,
	// waiter_gone, lease_lost, settled, promised and confirmed of a consumer; outcome of a reply; hello, done and refused
	// of a session.
	Event string `json:"event"`
	// Number is that of a caller's request.
	Number int `json:"number,omitempty"`

	Payload  string            `json:"payload,omitempty"`
	Sequence uint64            `json:"sequence,omitempty"`
	Attempt  uint32            `json:"attempt,omitempty"`
	Handles  map[string]string `json:"handles,omitempty"`

	MessageID     string   `json:"message_id,omitempty"`
	ReceiveHandle string   `json:"receive_handle,omitempty"`
	SendHandle    string   `json:"send_handle,omitempty"`
	ReplyTo       string   `json:"reply_to,omitempty"`
	EndedHandles  []string `json:"ended_handles,omitempty"`
	ConsumerID    string   `json:"consumer_id,omitempty"`

	Outcome string       `json:"outcome,omitempty"`
	Reason  string       `json:"reason,omitempty"`
	Error   *eventError  `json:"error,omitempty"`
	Code    any          `json:"code,omitempty"`
	Message string       `json:"message,omitempty"`
	Field   string       `json:"field,omitempty"`
	Rich    *eventStatus `json:"rich,omitempty"`

	Protocol     uint32 `json:"protocol_version,omitempty"`
	Tenant       string `json:"tenant,omitempty"`
	Calls        int    `json:"calls,omitempty"`
	Right        int    `json:"right,omitempty"`
	LargestFrame int    `json:"largest_frame,omitempty"`
}

// eventError is the contract's Error.
type eventError struct {
	Code     int32             `json:"code"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
	Field    string            `json:"field"`
	Metadata map[string]string `json:"metadata"`
	Details  []eventDetail     `json:"details"`
}

// message is its sentence.
func (e *eventError) message() string {
	if e == nil {
		return ""
	}
	return e.Message
}

// eventDetail is a google.protobuf.Any.
type eventDetail struct {
	Type  string `json:"type"`
	Value []byte `json:"value"`
}

// eventStatus is what grpc-status-details-bin says.
type eventStatus struct {
	Code   int32  `json:"code"`
	Reason string `json:"reason"`
	Domain string `json:"domain"`
	Field  string `json:"field"`
}

// compare reports in which way an event is not as it should be.
func (e event) compare(t *testing.T, who string, want event) {
	t.Helper()
	if diff := cmp.Diff(want, e, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: -want +got\n%s", who, diff)
	}
}

// story turns events into something short to compare: kind and content.
func story(events []event) []string {
	lines := make([]string, 0, len(events))
	for _, e := range events {
		line := e.Event
		switch e.Event {
		case "reply", "delivery":
			line += " " + e.Payload
		case "end":
			line += " " + e.Reason
		case "outcome":
			line += " " + e.Outcome
		case "status":
			line += " " + codeName(e.Code)
		}
		lines = append(lines, line)
	}
	return lines
}

func codeName(code any) string {
	name, _ := code.(string)
	return name
}

// withoutAttached leaves out an event that package client does not show.
func withoutAttached(events []event) []event {
	return slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.Event == "attached" })
}

// tell compares what a program has printed with what it should have.
func tell(t *testing.T, who string, events []event, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, story(withoutAttached(events))); diff != "" {
		t.Errorf("%s: -want +got\n%s", who, diff)
	}
}
