package broker_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
)

// A shop is a queue with producers and with consumers who settle, fail, dawdle and vanish, at random and in fake time. It
// writes down what happened, for the tests of what a queue promises.
type shop struct {
	*bed
	rand      *rand.Rand
	producers []*client
	// The consumers are operations of one session, so that what they get is in one order.
	worker    *client
	consumers []uint64
	held      []held

	accepted  map[broker.MessageID]sent
	inOrder   []broker.MessageID
	delivered []handOver
	acked     map[broker.MessageID]bool
	dead      map[broker.MessageID]bool
}

// sent is a message as its producer sent it.
type sent struct {
	lane   string // session, group and priority: within it there is an order
	number int
	body   string
}

// handOver is one delivery. over is when it ended; zero while it has not, as far as anybody was told.
type handOver struct {
	*broker.Delivery
	at, over time.Time
	acked    bool
}

// held is a delivery that a consumer has: its place in shop.delivered.
type held struct {
	consumer uint64
	place    int
}

// eachDay runs a test on what happened in many shops, with everything in one shard and spread over several.
func eachDay(t *testing.T, check func(t *testing.T, s *shop)) {
	t.Helper()
	only, _ := flag.Lookup("seed").Value.(flag.Getter).Get().(uint64) // see TestReplayRebuildsTheShard
	for seed := uint64(1); seed <= 40; seed++ {
		if only != 0 && seed != only {
			continue
		}
		inBed(t, broker.Config{Shards: 1 + 4*int(seed%2)}, func(t *testing.T, b *bed) {
			s := &shop{
				bed: b, rand: rand.New(rand.NewPCG(seed, 0)), worker: b.attach("worker"),
				accepted: make(map[broker.MessageID]sent), acked: make(map[broker.MessageID]bool), dead: make(map[broker.MessageID]bool),
			}
			for i := range 3 {
				s.producers = append(s.producers, b.attach(fmt.Sprint("producer-", i)))
			}
			s.producers[0].create("q", broker.QueueConfig{MaxFailures: 4, GroupConcurrency: uint32(seed % 3)})
			for range 400 {
				s.step()
			}
			s.closeUp()
			check(t, s)
		})
		if t.Failed() {
			t.Fatalf("run again with: go test ./broker -run '^%s$' -seed %d", t.Name(), seed)
		}
	}
}

// step does one thing, and looks at what came of it.
func (s *shop) step() {
	switch n := s.rand.IntN(100); {
	case n < 35:
		s.enqueue()
	case n < 45:
		if len(s.consumers) < 4 {
			s.hire()
		}
	case n < 48:
		s.fire()
	case n < 55:
		for range s.rand.IntN(40) { // in small steps, so that things are seen when they happen
			<-time.After(100 * time.Millisecond)
			s.look()
		}
	default:
		s.settle()
	}
	s.look()
}

func (s *shop) enqueue() {
	p := s.rand.IntN(len(s.producers))
	e := &broker.Enqueue{Queue: "q", Priority: []uint8{0, 0, 5}[s.rand.IntN(3)], Group: []string{"", "", "g", "h"}[s.rand.IntN(4)]}
	m := sent{lane: fmt.Sprint(p, e.Group, e.Priority), number: len(s.accepted)}
	m.body = fmt.Sprintf("message %d of %s", m.number, m.lane)
	e.Body = []byte(m.body)
	id := expect[*broker.Receipt](s.producers[p], s.producers[p].do(e)).Message
	s.accepted[id] = m
	s.inOrder = append(s.inOrder, id)
}

func (s *shop) hire() {
	op := s.worker.do(&broker.Consume{
		Queues: []string{"q"}, MaxInFlight: 1 + uint32(s.rand.IntN(4)), LeaseTime: time.Duration(1+s.rand.IntN(5)) * time.Second,
	})
	s.consumers = append(s.consumers, op)
}

// fire cuts a consumer off, with all it has.
func (s *shop) fire() {
	if len(s.consumers) == 0 {
		return
	}
	i := s.rand.IntN(len(s.consumers))
	op := s.consumers[i]
	s.look()
	s.consumers = append(s.consumers[:i], s.consumers[i+1:]...)
	kept := s.held[:0]
	for _, h := range s.held {
		if h.consumer == op {
			s.delivered[h.place].over = time.Now()
			continue
		}
		kept = append(kept, h)
	}
	s.held = kept
	s.worker.s.Detach(op)
}

// settle ends one of the deliveries, in one way or another, or tries to: it may have lost its lease.
func (s *shop) settle() {
	if len(s.held) == 0 {
		return
	}
	i := s.rand.IntN(len(s.held))
	h := s.held[i]
	d := &s.delivered[h.place]
	r := &broker.Settle{Lease: s.keys.Mint(d.Lease), Action: broker.Ack}
	switch n := s.rand.IntN(100); {
	case n < 20:
		r.Action, r.Delay = broker.Retry, time.Duration(s.rand.IntN(3))*time.Second
	case n < 30:
		r.Action = broker.Release
	case n < 34:
		r.Action = broker.Reject
	}
	e := s.worker.next(s.worker.do(r))
	settled, ok := e.Body.(*broker.Settled)
	if !ok {
		return // too late
	}
	d.over = time.Now()
	s.held = append(s.held[:i], s.held[i+1:]...)
	d.acked = r.Action == broker.Ack
	s.acked[d.Message] = s.acked[d.Message] || d.acked
	s.dead[d.Message] = settled.Dead
}

// look takes in what the consumers got.
func (s *shop) look() {
	s.t.Helper()
	synctest.Wait()
	got := s.worker.s.Take(s.worker.got)
	s.worker.got = nil
	for _, e := range got {
		switch body := e.Body.(type) {
		case *broker.Delivery:
			s.delivered = append(s.delivered, handOver{Delivery: body, at: time.Now()})
			s.held = append(s.held, held{e.Op, len(s.delivered) - 1})
		case *broker.LeaseLost:
			for i, h := range s.held {
				if d := &s.delivered[h.place]; d.Message == body.Message && d.Attempt == body.Attempt {
					d.over = time.Now()
					s.held = append(s.held[:i], s.held[i+1:]...)
					break
				}
			}
		case *broker.Started:
		default:
			s.t.Fatalf("operation %d: got %T", e.Op, e.Body)
		}
	}
}

// closeUp has one last consumer ack everything that is left.
func (s *shop) closeUp() {
	for len(s.consumers) > 0 {
		s.fire()
	}
	op := s.worker.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1000, LeaseTime: time.Hour})
	s.consumers = append(s.consumers, op)
	for range 60 {
		<-time.After(time.Second)
		s.look()
		for len(s.held) > 0 {
			d := &s.delivered[s.held[0].place]
			expect[*broker.Settled](s.worker, s.worker.do(&broker.Settle{Lease: s.keys.Mint(d.Lease), Action: broker.Ack}))
			d.over, d.acked = time.Now(), true
			s.acked[d.Message] = true
			s.held = s.held[1:]
			s.look()
		}
	}
	for _, m := range s.producers[0].list("q", broker.MessageDead) {
		s.dead[m.Message] = true
	}
}
