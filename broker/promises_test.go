package broker_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
)

// Every message whose Enqueue was confirmed is delivered until it is acked or has died, whatever its consumers do; it
// comes as it was sent, and nothing else comes.
func TestP02AtLeastOnce(t *testing.T) {
	eachDay(t, func(t *testing.T, s *shop) {
		for id, m := range s.accepted {
			if s.acked[id] == s.dead[id] {
				t.Errorf("%s (%v): acked is %v, dead is %v, want one of them", m.body, id, s.acked[id], s.dead[id])
			}
		}
		for _, d := range s.delivered {
			if m, ok := s.accepted[d.Message]; !ok || string(d.Body) != m.body {
				t.Errorf("delivered %v %q, want %q", d.Message, d.Body, m.body)
			}
		}
		if q := s.producers[0].queue("q"); q.Ready != 0 || q.InFlight != 0 || q.Delayed != 0 {
			t.Errorf("left over: %+v", q)
		}
	})
}

// The first deliveries of what one session sent, within a group and a priority, come in the order of sending; attempts
// are counted from 1.
func TestP05FirstDeliveriesComeInOrder(t *testing.T) {
	eachDay(t, func(t *testing.T, s *shop) {
		last := make(map[string]int)
		attempts := make(map[broker.MessageID]uint32)
		for _, d := range s.delivered {
			attempts[d.Message]++
			if d.Attempt != attempts[d.Message] {
				t.Errorf("%q: attempt %d, want %d", d.Body, d.Attempt, attempts[d.Message])
			}
			m := s.accepted[d.Message]
			if d.Attempt > 1 {
				continue
			}
			if before, ok := last[m.lane]; ok && before > m.number {
				t.Errorf("%q came after number %d", d.Body, before)
			}
			last[m.lane] = m.number
		}
	})
}

// A message is with one consumer at a time: until its lease is over, or it was settled or given back, nobody else has it.
func TestP06OneHolderAtATime(t *testing.T) {
	eachDay(t, func(t *testing.T, s *shop) {
		last := make(map[broker.MessageID]handOver)
		for _, d := range s.delivered {
			if before, ok := last[d.Message]; ok && (before.over.IsZero() || before.over.After(d.at)) {
				t.Errorf("%q: attempt %d at %v, while attempt %d went on until %v", d.Body, d.Attempt, d.at, before.Attempt, before.over)
			}
			if end := d.LeaseExpires.Std(); !d.over.IsZero() && d.over.After(end.Add(250*time.Millisecond)) {
				t.Errorf("%q: attempt %d was over %v after its lease", d.Body, d.Attempt, d.over.Sub(end))
			}
			last[d.Message] = d
		}
	})
}

// After its ack was accepted, a message is never delivered again.
func TestP08AckIsFinal(t *testing.T) {
	eachDay(t, func(t *testing.T, s *shop) {
		acked := make(map[broker.MessageID]bool)
		for _, d := range s.delivered {
			if acked[d.Message] {
				t.Errorf("%q: attempt %d after its ack", d.Body, d.Attempt)
			}
			acked[d.Message] = acked[d.Message] || d.acked
		}
	})
}
