package history

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A story builds a history, one second to an event.
type story struct {
	events []Event
	ops    int
}

func (s *story) note(e Event) *story {
	e.At = time.Duration(len(s.events)) * time.Second
	s.events = append(s.events, e)
	return s
}

// send sends the n-th message of the producer to queue q; what is how that went.
func (s *story) send(n int, what string) *story {
	s.ops++
	op := s.ops
	e := Event{Op: op, ID: ID{"p", n}, Queue: "q", What: Sent}
	s.note(e)
	if e.What = what; what == Accepted {
		e.Message = message1(n)
	}
	return s.note(e)
}

func message1(n int) string { return "m" + string(rune('0'+n)) }

func (s *story) deliver(n int, attempt uint32) *story {
	return s.note(Event{What: Delivered, ID: ID{"p", n}, Queue: "q", Message: message1(n), Attempt: attempt, By: "c"})
}

func (s *story) settle(n int, attempt uint32, kind string, o Output) *story {
	s.ops++
	e := Event{What: Settling, Op: s.ops, ID: ID{"p", n}, Queue: "q", Message: message1(n), Attempt: attempt, Kind: kind}
	s.note(e)
	e.What, e.Output = Settled, o
	return s.note(e)
}

// done is one message that is sent, delivered and acked.
func (s *story) done(n int) *story {
	return s.send(n, Accepted).deliver(n, 1).settle(n, 1, Ack, Output{})
}

func (s *story) wait(n int, ends ...string) *story {
	s.ops++
	e := Event{What: Waits, Op: s.ops, ID: ID{"p", n}}
	s.note(e)
	e.What = Ended
	for _, e.Reason = range ends {
		s.note(e)
	}
	return s
}

func (s *story) left(n int) *story {
	return s.note(Event{What: Left, ID: ID{"p", n}, Queue: "q", Message: message1(n), Reason: "ready"})
}

func (s *story) crash() *story    { return s.note(Event{What: Crashed}).note(Event{What: Back}) }
func (s *story) queue() *story    { return s.note(Event{What: HasQueue, Queue: "q"}) }
func (s *story) idle() *story     { return s.note(Event{What: HasQueue, Queue: "other"}) }
func begin() *story               { return &story{} }
func (s *story) end() []Event     { return s.queue().events }
func orderedIn(q string) Rules    { return Rules{Ordered: []string{q}} }
func lossy(d time.Duration) Rules { return Rules{Lossy: d} }

// What goes wrong is found, under its name and under no other; what does not, is not.
func TestCheck(t *testing.T) {
	cases := []struct {
		name   string
		events []Event
		rules  Rules
		want   []string // beginnings of the problems
	}{
		{"all is well", begin().done(1).wait(1, "OK").crash().done(2).end(), orderedIn("q"), nil},
		{"redelivered after a crash", begin().send(1, Accepted).deliver(1, 1).crash().deliver(1, 2).settle(1, 1, Ack, Output{Refused: true}).settle(1, 2, Ack, Output{}).end(), Rules{}, nil},
		{"an ack of unknown outcome", begin().send(1, Accepted).deliver(1, 1).settle(1, 1, Ack, Output{Unknown: true}).crash().end(), Rules{}, nil},
		{"an ack of unknown outcome that was not done", begin().send(1, Accepted).deliver(1, 1).settle(1, 1, Ack, Output{Unknown: true}).crash().deliver(1, 2).settle(1, 2, Ack, Output{}).end(), Rules{}, nil},
		{"left", begin().send(1, Accepted).left(1).end(), Rules{}, nil},
		{"unknown and not done", begin().send(1, Unknown).end(), Rules{}, nil},
		{"unknown and done", begin().send(1, Unknown).deliver(1, 1).settle(1, 1, Ack, Output{}).end(), Rules{}, nil},
		{"a wait that may end so", begin().send(1, Accepted).wait(1, "DEAD_LETTERED").end(), Rules{Ends: []string{"DEAD_LETTERED"}}, nil},

		{"the first is lost", begin().send(1, Accepted).done(2).done(3).crash().end(), Rules{}, []string{"1 lost-prefix"}},
		{"one in between is lost", begin().done(1).send(2, Accepted).done(3).crash().end(), Rules{}, []string{"1 lost-middle"}},
		{"the last are lost", begin().done(1).send(2, Accepted).send(3, Accepted).crash().done(4).end(), Rules{}, []string{"2 lost-postfix"}},
		{"all are lost", begin().send(1, Accepted).crash().end(), Rules{}, []string{"1 lost-postfix"}},
		{"lost without a crash", begin().send(1, Accepted).end(), Rules{}, []string{"1 lost-postfix"}},
		{"delivered, then lost", begin().send(1, Accepted).deliver(1, 1).crash().end(), Rules{}, []string{"1 lost-postfix"}},
		{"retried, then lost", begin().send(1, Accepted).deliver(1, 1).settle(1, 1, Retry, Output{}).crash().end(), Rules{}, []string{"1 lost-postfix"}},
		{"refused an ack, then lost", begin().send(1, Accepted).deliver(1, 1).settle(1, 1, Ack, Output{Refused: true}).end(), Rules{}, []string{"1 lost-postfix"}},

		{"the last before a crash are lost, and may", begin().done(1).send(2, Accepted).crash().done(3).end(), lossy(2 * time.Second), nil},
		{"lost too long before a crash", begin().done(1).send(2, Accepted).idle().idle().idle().crash().end(), lossy(2 * time.Second), []string{"1 lost too early"}},
		{"lost in between, shortly before a crash", begin().send(1, Accepted).send(2, Accepted).send(3, Accepted).crash().left(1).left(3).end(), lossy(9 * time.Second), []string{"1 lost-middle"}},
		{"lost among what was done before", begin().done(1).send(2, Accepted).done(3).crash().end(), lossy(9 * time.Second), nil},
		{"an ack is lost shortly before a crash", begin().done(1).crash().deliver(1, 2).settle(1, 2, Ack, Output{}).end(), lossy(9 * time.Second), nil},
		{"an ack is lost long before a crash", begin().done(1).idle().idle().crash().deliver(1, 2).settle(1, 2, Ack, Output{}).end(), lossy(time.Second), []string{"1 delivered after an ack"}},
		{"sent again after it was lost", begin().send(1, Accepted).crash().send(1, Accepted).note(Event{What: Delivered, ID: ID{"p", 1}, Queue: "q", Message: "other", Attempt: 1}).end(), lossy(2 * time.Second), []string{"1 duplicates"}},
		{"a wait is lost in a crash", begin().note(Event{What: Waits, Op: 1, ID: ID{"p", 1}}).crash().note(Event{What: Ended, Op: 1, Reason: "HANDLE_UNKNOWN"}).end(), lossy(time.Second), nil},

		{"one send, two messages", begin().done(1).note(Event{What: Delivered, ID: ID{"p", 1}, Queue: "q", Message: "other", Attempt: 1}).end(), Rules{}, []string{"1 duplicates"}},
		{"two sends, one message", begin().done(1).note(Event{What: Sent, Op: 9, ID: ID{"p", 2}, Queue: "q"}).note(Event{What: Accepted, Op: 9, ID: ID{"p", 2}, Queue: "q", Message: "m1"}).
			note(Event{What: Left, ID: ID{"p", 2}, Queue: "q", Message: "m1"}).end(), Rules{}, []string{"1 unexpected"}},
		{"the id of a message that was lost", begin().send(1, Accepted).crash().note(Event{What: Sent, Op: 9, ID: ID{"p", 2}, Queue: "q"}).note(Event{What: Accepted, Op: 9, ID: ID{"p", 2}, Queue: "q", Message: "m1"}).
			note(Event{What: Left, ID: ID{"p", 2}, Queue: "q", Message: "m1"}).end(), lossy(2 * time.Second), nil},
		{"nobody sent it", begin().deliver(1, 1).end(), Rules{}, []string{"1 unexpected"}},
		{"nobody sent what is left", begin().left(1).end(), Rules{}, []string{"1 unexpected"}},
		{"refused, and delivered", begin().send(1, Refused).deliver(1, 1).settle(1, 1, Ack, Output{}).end(), Rules{}, []string{"1 unexpected"}},
		{"from another queue", begin().send(1, Accepted).note(Event{What: Delivered, ID: ID{"p", 1}, Queue: "x", Message: "m1", Attempt: 1}).settle(1, 1, Ack, Output{}).end(), Rules{}, []string{"1 unexpected"}},
		{"corrupt", begin().note(Event{What: Corrupt, By: "c", Queue: "q", Reason: "3 bytes"}).end(), Rules{}, []string{"1 corrupt"}},
		{"acked, and delivered again", begin().done(1).crash().deliver(1, 2).end(), Rules{}, []string{"1 delivered after an ack", "1 impossible"}},
		{"acked, and left", begin().done(1).left(1).end(), Rules{}, []string{"1 delivered after an ack"}},
		{"an attempt twice", begin().send(1, Accepted).deliver(1, 1).deliver(1, 1).settle(1, 1, Ack, Output{}).end(), Rules{}, []string{"1 impossible"}},
		{"two attempts are acked", begin().send(1, Accepted).deliver(1, 1).deliver(1, 2).settle(1, 2, Ack, Output{}).settle(1, 1, Ack, Output{}).end(), Rules{}, []string{"1 impossible"}},
		{"out of order", begin().send(1, Accepted).send(2, Accepted).deliver(2, 1).deliver(1, 1).settle(1, 1, Ack, Output{}).settle(2, 1, Ack, Output{}).end(), orderedIn("q"), []string{"1 out of order"}},
		{"redelivered in another order", begin().send(1, Accepted).done(2).deliver(1, 2).settle(1, 2, Ack, Output{}).end(), orderedIn("q"), nil},
		{"out of order where nobody can see", begin().send(1, Accepted).done(2).deliver(1, 1).settle(1, 1, Ack, Output{}).end(), Rules{}, nil},
		{"hung", begin().done(1).wait(1).end(), Rules{}, []string{"1 hung"}},
		{"two ends", begin().done(1).wait(1, "OK", "OK").end(), Rules{}, []string{"1 wrong ends"}},
		{"a wrong end", begin().done(1).wait(1, "LOST").end(), Rules{}, []string{"1 wrong ends"}},
		{"a queue is gone", begin().done(1).events, Rules{}, []string{"1 queues gone"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			report := Check(c.events, c.rules)
			var got []string
			for i, p := range report.Problems() {
				name, _, _ := strings.Cut(p, ":")
				if i < len(c.want) && strings.HasPrefix(name, c.want[i]) {
					name = c.want[i]
				}
				got = append(got, name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("problems (-want +got)\n%s%v\n%s", diff, report, strings.Join(report.Problems(), "\n"))
			}
		})
	}
}
