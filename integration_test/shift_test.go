package integration_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/faultload"
	"github.com/replyq/replyq/internal/history"
)

// A shift is a load on a service: clients at all replicas.
type shift struct {
	*service
	trial
	name  string
	slow  map[string]time.Duration // the longest that it took, by what
	order []string                 // of what
}

const (
	shiftProducers = 2 * replicas // producer i is at replica i mod replicas first
	shiftPace      = 10 * time.Millisecond
	// A partition may last as long as the usual grace of callers.
	shiftGrace = time.Minute
)

// begin starts a load on the service.
func (s *service) begin() *shift { return s.beginWith(faultload.Config{Grace: shiftGrace}) }

func (s *service) beginWith(config faultload.Config) *shift {
	s.t.Helper()
	config.Seed, config.Name = s.random.Uint64(), fmt.Sprintf("s%x.", s.random.Uint32())
	config.Producers, config.Pace = shiftProducers, shiftPace
	config.Connect = func(i int) (*client.Client, error) { return s.connect(i) }
	n := &shift{service: s, trial: startTrial(s.t, config), name: config.Name, slow: make(map[string]time.Duration)}
	n.await("the beginning", time.Now(), 0, shiftProducers)
	return n
}

// pass lets the load go on for a while.
func (n *shift) pass(most time.Duration) { pass(n.random, most) }

// A fault is something bad that happens to a service under load.
type fault struct {
	*shift
	what  string
	began time.Time
	mark  int // how long the history was then
}

// strike has something bad happen.
func (n *shift) strike(what string, do func()) *fault {
	n.test.Helper()
	n.history.Note(history.Event{What: history.Crashed, Reason: what})
	f := &fault{n, what, time.Now(), len(n.history.Events())}
	do()
	return f
}

// back waits until what is sent by any client after the fault is confirmed.
func (f *fault) back() {
	f.test.Helper()
	f.note("confirmations after "+f.what, f.await(f.what, f.began, f.mark, 1))
}

// backForAll waits until the same goes for each client: they all find a replica that is well.
func (f *fault) backForAll() {
	f.test.Helper()
	f.note("confirmations to all after "+f.what, f.await(f.what, f.began, f.mark, shiftProducers))
}

// over ends the fault, and waits until what is sent by each client after that is confirmed.
func (f *fault) over(do func()) {
	f.test.Helper()
	began := time.Now()
	do()
	f.history.Note(history.Event{What: history.Back, Reason: f.what})
	f.note("confirmations to all after the end of "+f.what, f.await(f.what, began, len(f.history.Events()), shiftProducers))
}

// await waits until, of so many producers, something is confirmed that was sent after a mark in the history. It returns how
// long that took.
func (n *shift) await(what string, began time.Time, mark, producers int) time.Duration {
	n.test.Helper()
	sent, confirmed := make(map[int]bool), make(map[string]bool)
	eventually(n.test, "confirmations after "+what, func() bool {
		events := n.history.Events()
		for _, e := range events[mark:] {
			switch {
			case e.What == history.Sent && isProducer(n.name, e.ID):
				sent[e.Op] = true
			case e.What == history.Accepted && sent[e.Op]:
				confirmed[e.ID.Producer] = true
			}
		}
		mark = len(events)
		return len(confirmed) >= producers
	})
	return time.Since(began)
}

// note keeps the longest time of a kind.
func (n *shift) note(what string, took time.Duration) {
	if _, is := n.slow[what]; !is {
		n.order = append(n.order, what)
	}
	n.slow[what] = max(n.slow[what], took)
}

// isProducer tells whether something was sent by a producer, rather than derived from that by a worker.
func isProducer(load string, id history.ID) bool {
	return strings.HasPrefix(id.Producer, load) && !strings.Contains(id.Producer, "+")
}

// finish ends the load: nothing may be lost, nobody hang, and nothing old be said.
func (n *shift) finish(rules history.Rules) *history.Report {
	n.test.Helper()
	for _, what := range n.order {
		n.test.Logf("%s: %v at most", what, n.slow[what].Round(10*time.Millisecond))
	}
	return n.trial.finish(rules)
}

// shifts has a cycle of faults happen under a load; in `make soak-cluster` twice under each of many loads.
func (s *service) shifts(rules history.Rules, cycle func(n *shift)) {
	s.t.Helper()
	for range scaled(s.t, 1) {
		n := s.begin()
		for range scaledTo(s.t, 1, 2) {
			n.pass(time.Second)
			cycle(n)
		}
		n.finish(rules)
	}
}
