package broker

import (
	"sync"
	"time"
)

// A Consume over queues in several shards has a part in each of them, and an edge in front. The edge holds what counts
// over all of them: how much may be in flight, credit, the number of deliveries, the time without one. A part whose turn
// it is says so, and lets others pass (offer); the edge takes from it what there is room for (take). So a shard decides
// nothing by what lies outside of it.

// An edge is a consumer over several shards.
type edge struct {
	session *Session
	op      uint64
	home    uint16 // the part there watches the time
	shards  []uint16
	max     int64
	bounded bool // credit counts; else only max does
	limited bool // left counts
	wait    time.Duration

	mu       sync.Mutex
	inFlight int64
	credit   int64
	left     int64 // deliveries until it stops
	activeAt Time
	offers   []uint16 // shards that have something, in the order in which they said so
	running  bool     // all parts are there
	stopping bool     // nothing more is taken; it ends when all is settled
	feeding  int      // parts that have a queue
	endErr   *Error   // with which it ends
	over     bool
	pumping  bool // somebody takes
}

// handNotes gives notes of a shard to their edges. No lock is held.
func handNotes(r *runner, notes []edgeNote) {
	for _, n := range notes {
		n.edge.noted(r.number, n)
	}
}

func (e *edge) noted(from uint16, n edgeNote) {
	switch n.kind {
	case noteOffer:
		e.mu.Lock()
		e.offers = append(e.offers, from)
		e.mu.Unlock()
	case noteFreed:
		e.mu.Lock()
		e.inFlight--
		e.mu.Unlock()
	case noteIdle:
		e.idle(n.at)
	case noteNoQueue:
		e.mu.Lock()
		if e.feeding--; e.feeding == 0 {
			e.stopping = true
			e.endErr = errQueuesDeleted()
		}
		e.mu.Unlock()
	case noteTakenOver:
		// Who has taken it over goes through all shards, and takes there what it names; so the parts are left alone.
		if e.close() {
			e.last(errTakenOver())
		}
	}
	e.pump()
}

// grant lets it have more deliveries.
func (e *edge) grant(n uint32) {
	e.mu.Lock()
	e.credit += int64(n)
	e.mu.Unlock()
	e.pump()
}

// stop ends the deliveries and returns how many have not been settled. pump is to be called then.
func (e *edge) stop() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopping = true
	return uint32(max(e.inFlight, 0))
}

// start lets it take, when all parts are there; they hold so many deliveries of before.
func (e *edge) start(held int64) {
	e.mu.Lock()
	e.inFlight += held
	e.running = true
	e.mu.Unlock()
	e.pump()
}

// pump takes while there is room and something to take. One goroutine does it at a time: what comes up meanwhile is
// seen by that one.
func (e *edge) pump() {
	e.mu.Lock()
	if e.pumping || !e.running {
		e.mu.Unlock()
		return
	}
	e.pumping = true
	for len(e.offers) > 0 {
		n := e.roomLocked()
		if n == 0 {
			break
		}
		from := e.offers[0]
		e.offers = e.offers[1:]
		e.mu.Unlock()
		taken, now := e.takeFrom(from, n)
		e.mu.Lock()
		e.inFlight += taken
		e.credit -= taken
		e.left -= taken
		if taken > 0 {
			e.activeAt = now
		}
		e.stopping = e.stopping || e.limited && e.left <= 0
	}
	e.pumping = false
	done, err := e.stopping && e.inFlight <= 0, e.endErr
	e.mu.Unlock()
	if done {
		e.finish(err)
	}
}

func (e *edge) roomLocked() uint32 {
	if e.stopping || e.over {
		return 0
	}
	room := e.max - e.inFlight
	if e.bounded {
		room = min(room, e.credit)
	}
	if e.limited {
		room = min(room, e.left)
	}
	return uint32(max(room, 0))
}

func (e *edge) takeFrom(from uint16, n uint32) (taken int64, now Time) {
	e.session.broker.runners[from].run(e.part(func(sh *shard, c *consumer) { taken, now = int64(sh.take(c, n)), sh.now }))
	return taken, now
}

// part makes a function of a part one of its shard; it does nothing where the part has gone.
func (e *edge) part(f func(*shard, *consumer)) func(*shard) {
	return func(sh *shard) {
		if l := e.session.links[sh.st.shard]; l != nil && !l.closed {
			if c := l.consumers[e.op]; c != nil && c.edge == e {
				f(sh, c)
			}
		}
	}
}

// idle stops the edge if there was no delivery for so long and nothing is in flight; else it looks again later.
func (e *edge) idle(now Time) {
	e.mu.Lock()
	due := e.activeAt.Add(e.wait)
	if e.inFlight > 0 || e.pumping {
		due = now.Add(e.wait)
	}
	e.stopping = e.stopping || due <= now
	e.mu.Unlock()
	if due > now {
		e.session.broker.runners[e.home].run(e.part(func(sh *shard, c *consumer) { sh.timeConsumer(c, due) }))
	}
}

// finish ends the edge, with err or well, when everything that came from its parts has been handed out.
func (e *edge) finish(err *Error) {
	if !e.close() {
		return
	}
	for _, number := range e.shards {
		kept := e.session.broker.runners[number].runKept(false, e.part(func(sh *shard, c *consumer) {
			sh.removeConsumer(c)
			sh.returnHeld(c, "its consumer ended")
		}))
		if !kept {
			e.session.cutUnkept()
		}
	}
	e.last(err)
}

// last is the last event of the operation. It goes through a shard, so that it is said when that may say something.
func (e *edge) last(err *Error) {
	last := Event{Op: e.op, Done: true}
	if err != nil {
		last.Body = err
	}
	e.session.broker.runners[e.home].run(func(sh *shard) { sh.out = append(sh.out, outgoing{e.session, last}) })
}

// detach leaves the parts as a cut does.
func (e *edge) detach() {
	e.close()
	for _, number := range e.shards {
		e.session.broker.runners[number].run(e.part(func(sh *shard, c *consumer) { sh.detach(c.link, e.op) }))
	}
}

// close takes the edge off its session. It reports whether it was there.
func (e *edge) close() bool {
	e.mu.Lock()
	was := e.over
	e.over = true
	e.mu.Unlock()
	e.session.mu.Lock()
	delete(e.session.edges, e.op)
	e.session.mu.Unlock()
	return !was
}
