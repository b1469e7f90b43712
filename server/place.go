package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/broker"
)

// A place says where calls are served: here, by another replica, or by nobody that is known.
type place struct {
	tenure *tenure // nil unless it is here
	owner  *owner  // nil if it is here, or nobody knows where
	// changed is closed when calls are served elsewhere.
	changed chan struct{}
	// lost says that the owner has not answered for a while.
	lost atomic.Bool
}

func (p *place) known() bool { return p.tenure != nil || p.owner != nil }

// Own says that calls are served here from now on, by this broker, which stays the caller's. It is for servers that have
// [Config.Peers].
func (s *Server) Own(b *broker.Broker) {
	s.moving.Lock()
	defer s.moving.Unlock()
	if t := s.placed.Load().tenure; t != nil && t.broker == b {
		return
	}
	s.moveLocked(&place{tenure: s.newTenure(b)})
	if s.isDraining() {
		b.Drain()
	}
}

// Relay says that calls are served by the replica at this address from now on; "" means that nobody knows where. What is
// under way with a broker that was served here is cut off, OWNER_CHANGED: shut the broker down before, so that what it
// has accepted is answered first. It is for servers that have [Config.Peers].
func (s *Server) Relay(address string) {
	s.moving.Lock()
	defer s.moving.Unlock()
	now := s.placed.Load()
	switch {
	case address == "" && !now.known(), now.owner != nil && now.owner.address == address:
	case address == "":
		s.moveLocked(&place{})
	default:
		s.moveLocked(&place{owner: s.newOwner(address)})
	}
}

func (s *Server) moveLocked(next *place) {
	next.changed = make(chan struct{})
	before := s.placed.Swap(next)
	if s.ledger != nil {
		s.ledger.move(next.tenure)
	}
	s.showHealth()
	if next.owner != nil && s.running.Err() == nil {
		s.background.Go(func() { s.askAfter(next) })
	}
	if before == nil {
		return
	}
	close(before.changed)
	if before.tenure != nil {
		before.tenure.end()
	}
	if before.owner != nil {
		s.retire(before.owner)
	}
}

// retireAfter is how long calls that were relayed to an earlier owner may still hear from it how they ended.
const retireAfter = 250 * time.Millisecond

// retire ends what is relayed to an earlier owner, in a moment.
func (s *Server) retire(o *owner) {
	if s.running.Err() != nil {
		o.close()
		return
	}
	s.background.Go(func() {
		timer := time.NewTimer(retireAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-o.ctx.Done():
		}
		o.close()
	})
}

// leaveOwner ends the connections to the owner; there will be no others.
func (s *Server) leaveOwner() {
	s.moving.Lock()
	defer s.moving.Unlock()
	if o := s.placed.Load().owner; o != nil {
		s.placed.Swap(&place{changed: make(chan struct{})})
		o.close()
	}
}

// A search is a call's looking for the owner, which takes some time at most.
type search struct {
	srv   *Server
	limit time.Time
}

const (
	// ownerWait is how long a new call waits for an owner.
	ownerWait = 2 * time.Second
	// ownerPoll is how often it asks one that did not take it.
	ownerPoll = 25 * time.Millisecond
)

func (s *Server) newSearch(ctx context.Context) *search {
	wait := ownerWait
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		wait = min(wait, left-early(left))
	}
	return &search{s, time.Now().Add(wait)}
}

// place is where the call is served, as soon as that is known. It differs from the one given, which did not take it, or
// some time has passed.
func (f *search) place(ctx context.Context, not *place) (*place, *broker.Error) {
	for {
		p := f.srv.placed.Load()
		if p.known() && p != not {
			return p, nil
		}
		wait := time.Until(f.limit)
		if wait <= 0 {
			return nil, errOwnerUnreachable()
		}
		if p.known() {
			wait = min(wait, ownerPoll)
			not = nil
		}
		if refused := f.pause(ctx, p, wait); refused != nil {
			return nil, refused
		}
	}
}

func (f *search) pause(ctx context.Context, p *place, wait time.Duration) *broker.Error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.changed:
	case <-ctx.Done():
		return errOwnerUnreachable() // nobody hears it
	case <-f.srv.running.Done():
		return errDraining()
	}
	return nil
}

// A ledger counts what connections and streams take, in whichever broker is served.
type ledger struct {
	mu     sync.Mutex
	broker *broker.Broker // nil if none is served
	total  int64
}

func (l *ledger) hold(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total += bytes
	if l.broker != nil {
		l.broker.Hold(bytes)
	}
}

func (l *ledger) move(t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broker != nil {
		l.broker.Hold(-l.total)
	}
	l.broker = nil
	if t != nil {
		l.broker = t.broker
		l.broker.Hold(l.total)
	}
}
