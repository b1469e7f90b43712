package broker

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/replyq/replyq/broker/factpb"
)

// A runner runs one shard: one caller at a time, with the time of the clock, a timer for what is due, and the hand-over
// of events.
//
// Lock order: runner.mu, then Session.mu. No two runners' locks are held together.
type runner struct {
	broker *Broker
	number uint16
	keeper *keeper // nil without a journal
	log    *slog.Logger

	mu     sync.Mutex
	shard  *shard
	timer  *time.Timer // nil until start
	armed  Time        // when it fires; 0: not set
	closed bool
	// sends waits to be carried to other shards; all of it is kept.
	sends []*factpb.Sent
	woken wokenSessions // by what was handed over since the lock was taken
}

// soonest is what the timer is set to for what is due already. It is not 0 for the tests' sake: in fake time Go runs such a timer
// where it is set, and with the race detector of Go 1.26 two shards that do so at once bring the process down.
const soonest = time.Nanosecond

// A bundle is what a shard wants to be known outside, once the facts before it are kept.
type bundle struct {
	out   []outgoing
	sends []*factpb.Sent
	waits []*keptWait
}

func (b *bundle) isEmpty() bool { return len(b.out) == 0 && len(b.sends) == 0 && len(b.waits) == 0 }

func (r *runner) start() {
	r.mu.Lock()
	r.timer = time.AfterFunc(time.Hour, r.tick)
	r.mu.Unlock()
	if r.keeper != nil {
		r.keeper.start()
	}
	r.run(func(*shard) {})
}

func (r *runner) tick() { r.run(func(*shard) {}) }

// run calls f with the shard, at the time of the clock.
func (r *runner) run(f func(*shard)) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.callLocked(f)
	carry := r.afterLocked(nil)
	notes := r.shard.takeNotes()
	woken := r.takeWokenLocked()
	r.mu.Unlock()
	woken.wake()
	if carry {
		r.broker.carry(r)
	}
	handNotes(r, notes)
}

// callLocked calls f with the shard. A panic in there leaves a state that nobody may trust or wait for, so it ends the
// process, whatever the caller would do with it.
func (r *runner) callLocked(f func(*shard)) {
	ended := false
	defer func() {
		if !ended {
			if p := recover(); p != nil {
				go panic(fmt.Sprintf("broker: shard %d: %v\n%s", r.number, p, debug.Stack())) //nolint:forbidigo // to end the process
				select {}
			}
		}
	}()
	r.shard.pressed = r.broker.budget.pressed()
	if !r.shard.frozen && (r.keeper == nil || !r.keeper.standsStillLocked()) {
		r.shard.advance(TimeOf(r.broker.now()))
	}
	f(r.shard)
	r.shard.finish()
	ended = true
}

// runKept does so, and returns when the facts of f are kept. It returns false if that is not so after a while, or never
// will be; a patient one waits for as long as it takes.
func (r *runner) runKept(patient bool, f func(*shard)) (yes bool) {
	if r.keeper == nil {
		r.run(f)
		return true
	}
	wait := &keptWait{patient: patient, done: make(chan struct{})}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return false
	}
	r.callLocked(f)
	carry := r.afterLocked(wait)
	notes := r.shard.takeNotes()
	woken := r.takeWokenLocked()
	r.mu.Unlock()
	woken.wake()
	if carry {
		r.broker.carry(r)
	}
	<-wait.done
	handNotes(r, notes)
	return wait.kept
}

// afterLocked hands over what the shard left, at once or when it is kept, and sets the timer. It reports whether there
// is something to carry to other shards.
func (r *runner) afterLocked(wait *keptWait) (carry bool) {
	s := r.shard
	r.broker.budget.take(s)
	if r.keeper == nil {
		r.handOverLocked(s.out)
		clear(s.out)
		s.out = s.out[:0]
		carry = len(s.sends) > 0
		if carry {
			r.sends = append(r.sends, s.sends...)
			s.sends = nil
		}
	} else {
		carry = r.keeper.putLocked(s, wait)
	}
	if r.shard.frozen || r.keeper != nil && r.keeper.late {
		return carry // nothing is due until its time goes on
	}
	if next := s.due(); next != 0 && r.timer != nil && (r.armed == 0 || next < r.armed || r.armed <= s.now) {
		r.armed = next
		r.timer.Reset(max(soonest, time.Duration(next-s.now)))
	}
	return carry
}

func (r *runner) takeWokenLocked() wokenSessions {
	woken := r.woken
	if woken.n > 0 {
		r.woken = wokenSessions{}
	}
	return woken
}

// handOverLocked gives events to their sessions, in order: under the lock, the events of one shard keep their order.
func (r *runner) handOverLocked(out []outgoing) {
	if r.keeper != nil {
		// They come from the journal, all that were kept together. Nobody else looks after those that wait for company.
		for i := range out {
			out[i].event.patient = false
		}
	}
	for i := 0; i < len(out); {
		session := out[i].session
		n := i + 1
		for n < len(out) && out[n].session == session {
			n++
		}
		session.put(r.shard, &r.woken, out[i:n])
		i = n
	}
}

func (r *runner) close() error {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	if r.keeper != nil {
		return r.keeper.close()
	}
	return nil
}

// carry takes what shards have for each other to where it belongs, in the order in which each sent it. One goroutine
// does it at a time: who comes meanwhile leaves its work to that one. With journals it waits for them, so it is a
// goroutine of its own then: a keeper must not wait for another one, which may wait for it.
func (b *Broker) carry(r *runner) {
	b.carryMu.Lock()
	defer b.carryMu.Unlock()
	b.toCarry = append(b.toCarry, r)
	if b.carrying {
		return
	}
	b.carrying = true
	if r.keeper != nil {
		b.wg.Go(b.carryAll)
		return
	}
	b.carryMu.Unlock()
	b.carryAll()
	b.carryMu.Lock()
}

func (b *Broker) carryAll() {
	b.carryMu.Lock()
	defer b.carryMu.Unlock()
	for len(b.toCarry) > 0 {
		next := b.toCarry[0]
		b.toCarry = b.toCarry[1:]
		b.carryMu.Unlock()
		b.carryFrom(next)
		b.carryMu.Lock()
	}
	b.carrying = false
}

func (b *Broker) carryFrom(r *runner) {
	r.mu.Lock()
	sends := r.sends
	r.sends = nil
	r.mu.Unlock()
	for _, e := range sends {
		if int(e.Target) >= len(b.runners) {
			continue
		}
		var result sentResult
		if !b.runners[e.Target].runKept(true, func(s *shard) { result = s.receiveFrom(r.number, e) }) {
			continue // it stays in the outbox, for the next run of the broker
		}
		r.run(func(s *shard) { s.received(uint16(e.Target), e.Number, result) })
	}
}
