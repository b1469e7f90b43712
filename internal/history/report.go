package history

import (
	"fmt"
	"strings"
)

// A Report is what came out of a check. Its lists have one line for each thing found.
type Report struct {
	Sends, Accepted, Refused, Unknown int // operations
	Deliveries, Redelivered, Left     int // messages
	Waiters, Crashes                  int

	LostPrefix  []string // accepted, and gone, while what came later is not
	LostMiddle  []string // likewise, with something before it that is not gone
	LostPostfix []string // the last before a crash
	LostEarly   []string // of all these, what was accepted too long before a crash for any excuse
	Duplicates  []string // one send that is two messages
	Unexpected  []string // what nobody has sent, or not there
	Corrupt     []string // payloads that are not as they were sent
	AckedAgain  []string // delivered or kept after an accepted ack
	OutOfOrder  []string // first deliveries
	Impossible  []string // messages whose operations no order explains
	Hung        []string // waiters without an end
	WrongEnds   []string // waiters with another end than they should have, or two
	QueuesGone  []string

	lossy bool
}

func (r *Report) find(list *[]string, format string, args ...any) {
	*list = append(*list, fmt.Sprintf(format, args...))
}

// mostShown is how much of each list Problems shows.
const mostShown = 5

// Problems are the lists of what must not be, by name. None is what should come out.
func (r *Report) Problems() (problems []string) {
	for _, l := range []struct {
		name string
		list []string
		may  bool
	}{
		{"lost-prefix", r.LostPrefix, false},
		{"lost-middle", r.LostMiddle, false},
		{"lost-postfix", r.LostPostfix, r.lossy},
		{"lost too early", r.LostEarly, !r.lossy}, // else they are in the others already
		{"duplicates", r.Duplicates, false},
		{"unexpected", r.Unexpected, false},
		{"corrupt", r.Corrupt, false},
		{"delivered after an ack", r.AckedAgain, false},
		{"out of order", r.OutOfOrder, false},
		{"impossible", r.Impossible, false},
		{"hung waiters", r.Hung, false},
		{"wrong ends", r.WrongEnds, false},
		{"queues gone", r.QueuesGone, false},
	} {
		if len(l.list) == 0 || l.may {
			continue
		}
		shown := l.list[:min(len(l.list), mostShown)]
		problems = append(problems, fmt.Sprintf("%d %s:\n\t%s", len(l.list), l.name, strings.Join(shown, "\n\t")))
	}
	return problems
}

// String sums it up in a line.
func (r *Report) String() string {
	return fmt.Sprintf("%d crashes; %d sent, %d accepted, %d refused, %d unknown; %d deliveries (%d of them again), %d left; %d waiters; "+
		"lost-prefix %d, lost-middle %d, lost-postfix %d, duplicates %d, unexpected %d",
		r.Crashes, r.Sends, r.Accepted, r.Refused, r.Unknown, r.Deliveries, r.Redelivered, r.Left, r.Waiters,
		len(r.LostPrefix), len(r.LostMiddle), len(r.LostPostfix), len(r.Duplicates), len(r.Unexpected))
}
