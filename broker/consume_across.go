package broker

import (
	"slices"

	"github.com/replyq/replyq/handles"
)

// consumesAlone reports whether a Consume concerns its first queue's shard alone. One with an id concerns all, since an
// older consumer with it may be anywhere.
func (s *Session) consumesAlone(home uint16, r *Consume) bool {
	foreign := func(h handles.Handle) bool { return s.foreign(home, h) }
	return r.ConsumerID == "" && !slices.ContainsFunc(r.Held, foreign) && !slices.ContainsFunc(r.Queues, func(q string) bool {
		return s.broker.shardOf(s.identity.Tenant, q) != home
	})
}

// consumeAcross registers a consumer: a part of it in each shard that has one of its queues or of the leases that it
// holds. Elsewhere an older one with its id has to go.
func (s *Session) consumeAcross(home uint16, op *Op, r *Consume) {
	parts := s.partsOf(home, r)
	switch err, kept := s.checkParts(parts, r); {
	case !kept:
		s.cutUnkept()
		return
	case err != nil:
		s.refuseAt(home, op, err)
		return
	}
	for i, runner := range s.broker.runners {
		if parts[i] == nil && r.ConsumerID != "" {
			runner.run(func(sh *shard) { sh.vacate(s.identity, r.ConsumerID) })
		}
	}
	if countParts(parts) == 1 {
		s.submitTo(s.broker.runners[home], []Op{*op}, nil)
		return
	}
	s.openEdge(home, op, r, parts)
}

// partsOf splits a Consume by shard; nil where it has no part.
func (s *Session) partsOf(home uint16, r *Consume) []*Consume {
	parts := make([]*Consume, len(s.broker.runners))
	part := func(n uint16) *Consume {
		if parts[n] == nil {
			parts[n] = &Consume{LeaseTime: r.LeaseTime, Grace: r.Grace, ConsumerID: r.ConsumerID}
		}
		return parts[n]
	}
	for _, q := range r.Queues {
		p := part(s.broker.shardOf(s.identity.Tenant, q))
		p.Queues = append(p.Queues, q)
	}
	for _, h := range r.Held {
		n := home
		if s.foreign(home, h) {
			n = h.Shard()
		}
		p := part(n)
		p.Held = append(p.Held, h)
	}
	part(home).Wait = r.Wait
	return parts
}

func countParts(parts []*Consume) (n int) {
	for _, p := range parts {
		if p != nil {
			n++
		}
	}
	return n
}

// checkParts asks every shard before anything is changed. It returns false if what it found is not kept.
func (s *Session) checkParts(parts []*Consume, r *Consume) (err *Error, kept bool) {
	for i, runner := range s.broker.runners {
		p := parts[i]
		if p == nil {
			p = &Consume{ConsumerID: r.ConsumerID}
		}
		kept = runner.runKept(false, func(sh *shard) {
			if l := s.linkAt(sh); l != nil {
				sh.allowed = s.broker.budget.allowance(s.total)
				err = sh.checkConsume(l, p, r.Queues)
			}
		})
		if !kept || err != nil {
			return err, kept
		}
	}
	return nil, true
}

// openEdge registers the parts. Everything that comes from them comes after Started.
func (s *Session) openEdge(home uint16, op *Op, r *Consume, parts []*Consume) {
	e := &edge{
		session: s, op: op.ID, home: home, max: int64(max(r.MaxInFlight, 1)), wait: r.Wait,
		credit: int64(op.Credit), bounded: op.Credit > 0,
		left: int64(min(r.MaxDeliveries, 1<<62)), limited: r.MaxDeliveries > 0,
	}
	started := &Started{ConsumerID: r.ConsumerID}
	for i, p := range parts {
		if p == nil {
			continue
		}
		e.shards = append(e.shards, uint16(i))
		if len(p.Queues) > 0 {
			e.feeding++
		}
		kept := s.broker.runners[i].runKept(false, func(sh *shard) {
			if l := s.linkAt(sh); l != nil {
				started.Created = append(started.Created, sh.queuesFor(l, p)...)
				e.activeAt = sh.now
			}
			if started.ConsumerID == "" {
				started.ConsumerID = sh.consumerID()
			}
		})
		if !kept {
			s.cutUnkept()
			return
		}
	}
	s.mu.Lock()
	if s.edges == nil {
		s.edges = make(map[uint64]*edge)
	}
	s.edges[op.ID] = e
	s.mu.Unlock()
	told := s.broker.runners[home].runKept(false, func(sh *shard) {
		sh.out = append(sh.out, outgoing{s, Event{Op: op.ID, Body: started}})
	})
	if !told {
		s.cutUnkept()
		return
	}
	held := int64(0)
	for _, number := range e.shards {
		var err *Error
		s.broker.runners[number].run(func(sh *shard) {
			l := s.linkAt(sh)
			if l == nil {
				return
			}
			p := parts[number]
			if err = sh.checkConsume(l, p, r.Queues); err == nil { // again: somebody may have come in between
				held += int64(sh.register(l, &Op{ID: op.ID}, p, started.ConsumerID, e).inFlight)
			}
		})
		if err != nil {
			e.finish(err)
			return
		}
	}
	e.start(held)
}

// edgeOf is the edge of an operation; nil if it has none.
func (s *Session) edgeOf(op uint64) *edge {
	if len(s.broker.runners) == 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.edges[op]
}
