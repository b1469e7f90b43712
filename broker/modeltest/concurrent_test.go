package modeltest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/journalflag"
)

var (
	operationsFlag = flag.Int("operations", 50_000, "how many operations there are in each concurrent history")
	crowdSeed      = flag.Uint64("crowd.seed", 0, "seed of the concurrent histories; what the scheduler does is not in it")
)

// TestConcurrentHistoriesAreLinearizable lets producers, workers and others who have got hold of handles and leases work
// at the same time, and then checks for each message, with its pipe, that all that was answered can have happened one
// after the other. Every waiter has got exactly one end.
func TestConcurrentHistoriesAreLinearizable(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			seed := *crowdSeed
			if seed == 0 {
				seed = uint64(time.Now().UnixNano())
			}
			c := newCrowd(t, shards, seed)
			c.run(*operationsFlag)
			c.check()
			if t.Failed() {
				t.Logf("run again with: go test -race ./broker/modeltest -run %s -crowd.seed %d -operations %d", t.Name(), seed, *operationsFlag)
			}
		})
	}
}

const (
	crowdProducers = 4
	crowdWorkers   = 4
	crowdMeddlers  = 2
	crowdQueues    = 8
)

// A crowd is many clients of one broker.
type crowd struct {
	t     *testing.T
	seed  uint64
	b     *broker.Broker
	keys  *handles.KeyRing
	start time.Time
	stop  chan struct{} // closed when all calls have ended

	mu      sync.Mutex
	history map[broker.MessageID][]porcupine.Operation
	count   int
	things  []thing // what meddlers may use
}

// A thing is a handle that somebody has got hold of.
type thing struct {
	message broker.MessageID
	handle  handles.Handle
	attempt uint32 // of a lease
}

func newCrowd(t *testing.T, shards int, seed uint64) *crowd {
	cfg := broker.Config{Shards: shards}
	journalflag.Set(t, &cfg)
	b, err := broker.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := handles.NewEphemeral()
	if err != nil {
		t.Fatal(err)
	}
	return &crowd{
		t: t, seed: seed, b: b, keys: keys, start: time.Now(), stop: make(chan struct{}),
		history: make(map[broker.MessageID][]porcupine.Operation),
	}
}

func (c *crowd) now() int64 { return int64(time.Since(c.start)) }

// note adds an operation to a message's history.
func (c *crowd) note(who int, id broker.MessageID, call int64, in asked, out told) {
	op := porcupine.Operation{ClientId: who, Input: in, Call: call, Output: out, Return: c.now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history[id] = append(c.history[id], op)
	c.count++
}

func (c *crowd) offer(t thing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.things = append(c.things, t)
}

// someThing returns a thing, mostly a new one, since what is old is over.
func (c *crowd) someThing(r *rand.Rand) (thing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.things) == 0 {
		return thing{}, false
	}
	return c.things[max(0, len(c.things)-1-r.IntN(32))], true
}

func (c *crowd) run(operations int) {
	var calls, others sync.WaitGroup
	for i := range crowdProducers {
		// A message has about six operations in all.
		calls.Go(func() { c.member(i).produce(operations / 6 / crowdProducers) })
	}
	for i := range crowdWorkers {
		others.Go(func() { c.member(10 + i).work() })
	}
	for i := range crowdMeddlers {
		others.Go(func() { c.member(20 + i).meddle() })
	}
	calls.Wait()
	close(c.stop)
	others.Wait()
	if err := c.b.Close(); err != nil {
		c.t.Error(err)
	}
}

// check looks for an order that explains each message's history.
func (c *crowd) check() {
	for id, history := range c.history {
		if result := porcupine.CheckOperationsTimeout(pairModel, history, 10*time.Second); result != porcupine.Ok {
			c.t.Errorf("message %v: %v", id, result)
			for _, op := range history {
				c.t.Logf("  %d to %d, client %d: %+v: %+v", op.Call, op.Return, op.ClientId, op.Input, op.Output)
			}
			return
		}
	}
	c.t.Logf("%d operations on %d messages", c.count, len(c.history))
}

// A member of the crowd has a session of its own.
type member struct {
	*crowd
	who   int
	rand  *rand.Rand
	s     *broker.Session
	op    uint64
	taken []broker.Event // not looked at yet
}

func (c *crowd) member(who int) *member {
	s := c.b.Attach(broker.Identity{Tenant: 1, Principal: "p"}, broker.SessionOptions{ID: fmt.Append(nil, who)})
	return &member{crowd: c, who: who, rand: rand.New(rand.NewPCG(c.seed, uint64(who))), s: s}
}

func (m *member) submit(op broker.Op) uint64 {
	m.op++
	op.ID = m.op
	m.s.Submit([]broker.Op{op})
	return m.op
}

// take waits for the next event; ok is false if there is none and the crowd has stopped.
func (m *member) take() (e broker.Event, ok bool) {
	for len(m.taken) == 0 {
		m.taken = m.s.Take(m.taken)
		if len(m.taken) > 0 {
			break
		}
		select {
		case <-m.s.Ready():
		case <-m.stop:
			if m.taken = m.s.Take(m.taken); len(m.taken) == 0 {
				return e, false
			}
		}
	}
	e, m.taken = m.taken[0], m.taken[1:]
	return e, true
}

// ask carries an operation out and returns its answer. Other events wait.
func (m *member) ask(r broker.Request) any {
	op := m.submit(broker.Op{Request: r})
	for i := 0; ; {
		for ; i < len(m.taken); i++ {
			if e := m.taken[i]; e.Op == op {
				m.taken = append(m.taken[:i:i], m.taken[i+1:]...)
				return e.Body
			}
		}
		if m.taken = m.s.Take(m.taken); i == len(m.taken) {
			<-m.s.Ready()
		}
	}
}

// produce makes calls, some at a time, and waits for the end of each.
func (m *member) produce(n int) {
	defer m.s.Close()
	type open struct {
		id     broker.MessageID
		called int64
		next   uint64
	}
	calls := make(map[uint64]*open)
	for made := 0; made < n || len(calls) > 0; {
		for made < n && len(calls) < 16 {
			made++
			called := m.now()
			calls[m.submit(broker.Op{Credit: 1000, Request: &broker.Enqueue{
				Queue: fmt.Sprint("q", m.rand.IntN(crowdQueues)), Pipe: &broker.PipeOptions{}, Call: true,
			}})] = &open{called: called, next: 1}
		}
		e, ok := m.take()
		if !ok {
			return
		}
		call := calls[e.Op]
		if call == nil {
			m.t.Errorf("an event %T for a call that has ended", e.Body)
			return
		}
		switch b := e.Body.(type) {
		case *broker.Receipt:
			call.id = b.Message
			m.note(m.who, call.id, call.called, asked{kind: deedCall}, told{})
			m.offer(thing{message: call.id, handle: m.keys.Mint(b.Receive)})
		case *broker.ReplyItem:
			if b.Sequence != call.next {
				m.t.Errorf("message %v: reply %d, want %d", call.id, b.Sequence, call.next)
			}
			call.next++
		case *broker.End:
			m.note(m.who, call.id, call.called, asked{kind: deedEnd}, told{reason: b.Reason, last: b.LastSequence})
			m.s.Passed(e.Op)
			delete(calls, e.Op)
		default:
			m.t.Errorf("message %v: got %T", call.id, b)
		}
	}
}

// work consumes until all calls have ended.
func (m *member) work() {
	defer m.s.Close()
	queues := make([]string, 0, crowdQueues)
	for i := range crowdQueues {
		queues = append(queues, fmt.Sprint("q", i))
	}
	m.submit(broker.Op{Request: &broker.Consume{Queues: queues, MaxInFlight: 8, LeaseTime: time.Hour}})
	for {
		e, ok := m.take()
		if !ok {
			return
		}
		if d, is := e.Body.(*broker.Delivery); is {
			m.note(m.who, d.Message, 0, asked{kind: deedDelivery, attempt: d.Attempt}, told{})
			m.handle(thing{d.Message, m.keys.Mint(d.Lease), d.Attempt}, m.keys.Mint(d.ReplyTo))
		}
	}
}

// handle does what a consumer may do with a delivery.
func (m *member) handle(lease thing, replyTo handles.Handle) {
	m.offer(thing{message: lease.message, handle: replyTo})
	m.offer(lease)
	settled := false
	for range m.rand.IntN(3) {
		m.reply(lease, replyTo, true, false)
	}
	switch n := m.rand.IntN(10); {
	case n < 4:
		settled = m.reply(lease, replyTo, m.rand.IntN(4) == 0, true)
	case n < 5 && lease.attempt < mostAttempts/2:
		settled = m.settle(lease, broker.Retry)
	case n < 6 && lease.attempt < mostAttempts/2:
		settled = m.settle(lease, broker.Release)
	case n < 7:
		settled = m.settle(lease, broker.Reject)
	case n < 8:
		m.reply(thing{message: lease.message}, replyTo, m.rand.IntN(2) == 0, false)
	}
	if !settled || m.rand.IntN(4) == 0 {
		m.settle(lease, broker.Ack)
	}
}

func (m *member) settle(lease thing, action broker.SettleAction) (done bool) {
	called := m.now()
	in := asked{kind: deedSettle, attempt: lease.attempt, action: action}
	switch b := m.ask(&broker.Settle{Lease: lease.handle, Action: action, Delay: broker.NoDelay}).(type) {
	case *broker.Settled:
		m.note(m.who, lease.message, called, in, told{already: b.Already})
		return true
	case *broker.Error:
		m.note(m.who, lease.message, called, in, told{refused: b.Reason})
	}
	return false
}

func (m *member) reply(lease thing, to handles.Handle, more, ack bool) (done bool) {
	called := m.now()
	in := asked{kind: deedReply, attempt: lease.attempt, more: more, ack: ack}
	switch b := m.ask(&broker.Reply{Handle: to, Kind: broker.ReplyPayload, More: more, Lease: lease.handle, Ack: ack}).(type) {
	case *broker.ReplyResult:
		m.note(m.who, lease.message, called, in, told{result: *b})
		return true
	case *broker.Error:
		m.note(m.who, lease.message, called, in, told{refused: b.Reason})
	}
	return false
}

// meddle uses what others have: it cancels, answers, and settles.
func (m *member) meddle() {
	defer m.s.Close()
	for {
		select {
		case <-m.stop:
			return
		default:
		}
		x, ok := m.someThing(m.rand)
		if !ok || m.rand.IntN(4) > 0 { // most of the time it leaves others alone
			select {
			case <-m.stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			continue
		}
		switch x.handle.Kind() {
		case handles.Receive:
			called := m.now()
			if b, ok := m.ask(&broker.Cancel{Handle: x.handle}).(*broker.Cancelled); ok {
				m.note(m.who, x.message, called, asked{kind: deedCancel}, told{now: b.Now, reason: b.Reason})
			}
		case handles.Send:
			m.reply(thing{message: x.message}, x.handle, true, false)
		case handles.Lease:
			action := broker.Ack
			if m.rand.IntN(2) == 0 && x.attempt < mostAttempts/2 {
				action = broker.Retry
			}
			m.settle(x, action)
		}
	}
}
