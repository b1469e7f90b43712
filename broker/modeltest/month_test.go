package modeltest

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

var (
	monthSeed   = flag.Uint64("month.seed", 0, "run only this seed of the month of leases")
	monthsFlag  = flag.Int("months", 1, "how many months of leases to run")
	monthLeases = flag.Int("month.leases", 10_000, "how many leases there are in a month")
)

// TestMonthOfLeases lets thousands of leases, delays, schedules and expiries run over thirty days of virtual time, while
// the clock on the wall is set an hour forward and back. What is due comes at its time: never before, and no more than a
// millisecond after. No message has two leases at a time, and no lease that is over is taken.
func TestMonthOfLeases(t *testing.T) {
	for i := range *monthsFlag {
		seed := uint64(time.Now().UnixNano()) + uint64(i)
		if *monthSeed != 0 {
			seed = *monthSeed
		}
		synctest.Test(t, func(t *testing.T) {
			m := newMonth(t, seed)
			m.run()
			if t.Failed() {
				t.Logf("run again with: go test ./broker/modeltest -run %s -month.seed %d -month.leases %d", t.Name(), seed, *monthLeases)
			}
		})
		if t.Failed() {
			return
		}
	}
}

const thirtyDays = 30 * 24 * time.Hour

// A month is a broker with one worker and one producer, and what they have in mind.
type month struct {
	t        *testing.T
	rand     *rand.Rand
	b        *broker.Broker
	keys     *handles.KeyRing
	s        *broker.Session
	op       uint64
	consumer uint64
	leases   int
	todo     todo
	// enqueues and readers are operations that have not been answered, or go on.
	enqueues map[uint64]*monthMessage
	messages map[broker.MessageID]*monthMessage
	settles  map[uint64]*monthMessage
	stale    map[uint64]bool // settles that must be refused
}

// A monthMessage is what is due for a message next.
type monthMessage struct {
	due     time.Time // its delivery, or its end if it expires
	expires bool      // nobody consumes its queue
	attempt uint32
	leased  bool
	lease   handles.Handle
	old     handles.Handle // an earlier lease
	lapses  time.Time      // when the lease ends
}

// todo is what the worker and the producer will do, by time.
type todo []deed

type deed struct {
	at time.Time
	do func()
}

func (d todo) Len() int           { return len(d) }
func (d todo) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d todo) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *todo) Push(x any)        { *d = append(*d, x.(deed)) } //nolint:errcheck // heap.Push gets deeds only
func (d *todo) Pop() any {
	old := *d
	last := old[len(old)-1]
	*d = old[:len(old)-1]
	return last
}

func newMonth(t *testing.T, seed uint64) *month {
	m := &month{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), enqueues: make(map[uint64]*monthMessage),
		messages: make(map[broker.MessageID]*monthMessage), settles: make(map[uint64]*monthMessage), stale: make(map[uint64]bool),
	}
	jumps := []time.Duration{0, time.Hour, -time.Hour}
	b, err := broker.Open(broker.Config{Store: 1, Now: func() time.Time { return time.Now().Add(jumps[m.rand.IntN(3)]) }})
	if err != nil {
		t.Fatal(err)
	}
	if m.keys, err = handles.NewEphemeral(); err != nil {
		t.Fatal(err)
	}
	m.b = b
	m.s = b.Attach(broker.Identity{Tenant: 1, Principal: "p"}, broker.SessionOptions{})
	return m
}

func (m *month) submit(r broker.Request) uint64 {
	m.op++
	m.s.Submit([]broker.Op{{ID: m.op, Credit: 100, Request: r}})
	return m.op
}

func (m *month) at(t time.Time, do func()) { heap.Push(&m.todo, deed{t, do}) }

func (m *month) upTo(d time.Duration) time.Duration {
	return time.Duration(m.rand.Int64N(int64(d)))
}

func (m *month) run() {
	start := time.Now()
	m.submit(&broker.CreateQueue{Queue: "q", Config: broker.QueueConfig{MaxFailures: 1_000_000}}) // none shall die of many leases
	synctest.Wait()
	m.s.Take(nil)
	m.op++
	m.consumer = m.op
	m.s.Submit([]broker.Op{{ID: m.op, Request: &broker.Consume{Queues: []string{"q"}, MaxInFlight: 10_000, LeaseTime: 12 * time.Hour}}})
	for m.leases < *monthLeases || m.busy() {
		next := time.Now().Add(time.Hour)
		if len(m.todo) > 0 {
			next = m.todo[0].at
		} else if m.leases < *monthLeases {
			next = time.Now().Add(m.upTo(2 * thirtyDays / time.Duration(*monthLeases)))
			m.at(next, m.enqueue)
		}
		select {
		case <-m.s.Ready():
		case <-time.After(time.Until(next)):
			for len(m.todo) > 0 && !m.todo[0].at.After(time.Now()) {
				heap.Pop(&m.todo).(deed).do() //nolint:errcheck // see Push
			}
		}
		synctest.Wait()
		for _, e := range m.s.Take(nil) {
			m.event(e)
		}
		m.overdue()
		if m.t.Failed() {
			break
		}
	}
	m.t.Logf("%d leases in %v of virtual time", m.leases, time.Since(start).Round(time.Hour))
	m.s.Close()
	if err := m.b.Close(); err != nil {
		m.t.Error(err)
	}
}

func (m *month) busy() bool { return len(m.messages)+len(m.enqueues)+len(m.settles) > 0 }

// enqueue sends one message: at once, with a delay, for a time, or to expire; and the next one some time later.
func (m *month) enqueue() {
	x := &monthMessage{due: time.Now()}
	e := &broker.Enqueue{Queue: "q"}
	switch m.rand.IntN(4) {
	case 0:
		e.Delay = m.upTo(5*24*time.Hour) + 1
		x.due = time.Now().Add(e.Delay)
	case 1:
		at := m.b.Now().Add(m.upTo(5*24*time.Hour) + 1)
		e.NotBefore = broker.TimeOf(at)
		x.due = time.Now().Add(at.Sub(m.b.Now()))
	case 2:
		e.Queue, e.Expiry, x.expires = "nobody's", m.upTo(5*24*time.Hour)+1, true
		e.Pipe, e.Call = &broker.PipeOptions{Timeout: thirtyDays}, true
		x.due = time.Now().Add(e.Expiry)
	}
	m.enqueues[m.submit(e)] = x
	if m.leases < *monthLeases {
		m.at(time.Now().Add(m.upTo(2*thirtyDays/time.Duration(*monthLeases))), m.enqueue)
	}
}

// onTime checks that something comes when it is due.
func (m *month) onTime(what string, due time.Time) {
	m.t.Helper()
	if late := time.Since(due); late < 0 || late > time.Millisecond {
		m.t.Errorf("%s: %v after its time", what, late)
	}
}

// overdue checks that nothing is missing.
func (m *month) overdue() {
	for id, x := range m.messages {
		due := x.due
		if x.leased {
			due = x.lapses
		}
		if time.Since(due) > time.Millisecond {
			m.t.Errorf("message %v (leased: %v): %v after its time nothing has come", id, x.leased, time.Since(due))
		}
	}
}

func (m *month) event(e broker.Event) {
	switch b := e.Body.(type) {
	case *broker.Receipt:
		x := m.enqueues[e.Op]
		m.messages[b.Message] = x
		if !x.expires {
			delete(m.enqueues, e.Op)
		}
	case *broker.End:
		m.onTime("the end of an expired message", m.enqueues[e.Op].due)
		if b.Reason != broker.EndExpired {
			m.t.Errorf("ended %v, want EXPIRED", b.Reason)
		}
		m.s.Passed(e.Op)
		for id, x := range m.messages {
			if x == m.enqueues[e.Op] {
				delete(m.messages, id)
			}
		}
		delete(m.enqueues, e.Op)
	case *broker.Delivery:
		m.delivered(b)
	case *broker.LeaseLost:
		x := m.messages[b.Message]
		if !x.leased || b.Attempt != x.attempt {
			m.t.Errorf("lost a lease of message %v that was not in force", b.Message)
		}
		m.onTime("the end of a lease", x.lapses)
		x.leased, x.due = false, time.Now()
	case *broker.Settled:
		if m.stale[e.Op] {
			m.t.Error("a lease that was over was settled")
		}
		delete(m.settles, e.Op)
	case *broker.Error:
		if !m.stale[e.Op] || b.Reason != broker.ReasonLeaseStale {
			m.t.Errorf("got %v", b)
		}
		delete(m.stale, e.Op)
	}
}

func (m *month) delivered(b *broker.Delivery) {
	x := m.messages[b.Message]
	switch {
	case x == nil:
		m.t.Fatalf("message %v was delivered, which nobody has", b.Message)
	case x.leased:
		m.t.Errorf("message %v was delivered although attempt %d has it", b.Message, x.attempt)
	case b.Attempt != x.attempt+1:
		m.t.Errorf("message %v: attempt %d after %d", b.Message, b.Attempt, x.attempt)
	}
	m.onTime(fmt.Sprintf("attempt %d", b.Attempt), x.due)
	m.leases++
	x.old, x.lease = x.lease, m.keys.Mint(b.Lease)
	x.attempt, x.leased, x.lapses = b.Attempt, true, time.Now().Add(12*time.Hour)
	if !x.old.IsZero() {
		m.stale[m.submit(&broker.Settle{Lease: x.old, Action: broker.Ack})] = true
	}
	after := time.Now().Add(m.upTo(12 * time.Hour))
	switch m.rand.IntN(8) {
	case 0: // the lease lapses
	case 1, 2:
		m.at(after, func() { m.extend(x) })
	case 3, 4:
		m.at(after, func() { m.retry(x) })
	default:
		m.at(after, func() { m.ack(b.Message, x) })
	}
}

func (m *month) extend(x *monthMessage) {
	by := time.Second + m.upTo(5*time.Hour)
	x.lapses = time.Now().Add(by)
	m.submit(&broker.ExtendLeases{Leases: []handles.Handle{x.lease}, LeaseTime: by})
}

func (m *month) retry(x *monthMessage) {
	delay := m.upTo(24*time.Hour) + 1
	x.leased, x.due = false, time.Now().Add(delay)
	if x.attempt > 15 { // before it has failed too often
		x.due = time.Now()
		m.submit(&broker.Settle{Lease: x.lease, Action: broker.Release})
		return
	}
	m.settles[m.submit(&broker.Settle{Lease: x.lease, Action: broker.Retry, Delay: delay})] = x
}

func (m *month) ack(id broker.MessageID, x *monthMessage) {
	delete(m.messages, id)
	m.settles[m.submit(&broker.Settle{Lease: x.lease, Action: broker.Ack})] = x
}
