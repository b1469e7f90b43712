package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A goodbye is a call of Leave.
type goodbye struct {
	ctx   context.Context //nolint:containedctx // of the call
	done  chan struct{}
	ended bool // done is closed

	heir  string    // who reads along, to be the next owner; empty: nobody, or the claim was given up
	until time.Time // how long it has for that
	heard uint64    // the revision of what the heir told last
	at    time.Time // when that was new
}

func (g *goodbye) end() {
	if !g.ended {
		g.ended = true
		close(g.done)
	}
}

// Leave gives way: this replica does not take over any more and, if it is the owner and there is another replica, hands over
// to that one, which reads along first while this one serves on, for half of the time until ctx's end and at most 30 s. It
// returns when another one is the owner or, after a while or at ctx's end, when none could be found. From
// then on it relays, or serves if it is alone, until it is closed.
func (r *Replica) Leave(ctx context.Context) {
	along := alongTime
	if deadline, ok := ctx.Deadline(); ok {
		along = min(along, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, along+giveWayTime)
	defer cancel()
	g := &goodbye{ctx: ctx, done: make(chan struct{}), until: time.Now().Add(along)}
	select {
	case r.leave <- g:
	case <-ctx.Done():
		return
	case <-r.stopped:
		return
	}
	select {
	case <-g.done:
	case <-ctx.Done():
	case <-r.stopped:
	}
}

// giveWay is Leave, in the loop.
func (r *Replica) giveWay(g *goodbye) {
	if r.going != nil {
		g.end() // it was called before
		return
	}
	r.going = g
	e := r.election
	if !e.owns() {
		e.state = leaving
		e.told = time.Time{}
		return // act sees whether there is an owner
	}
	heir, found := r.successor(g.ctx)
	switch {
	case !found:
		r.cfg.Log.Info("there is no other replica to hand over to")
		g.end()
	case r.broker == nil: // it is being opened
		r.goNow()
	default:
		g.heir, g.heard, g.at = heir.Node, heir.revision, time.Now()
		e.heir = heir.Node
		e.renew(r.ctx) // says so
	}
}

// handOver gives way once the heir has read along, or does not seem to.
func (r *Replica) handOver() {
	g := r.going
	ctx, cancel := context.WithTimeout(r.ctx, r.election.times.try)
	defer cancel()
	m, err := r.bucket.member(ctx, memberKey+g.heir)
	if now := time.Now(); err == nil && m.revision != g.heard {
		g.heard, g.at = m.revision, now
	}
	switch {
	case err == nil && m.ready == r.election.boot:
	case time.Since(g.at) > silentTime, m.State == string(leaving):
		r.cfg.Log.Warn("the replica that should take over has gone", slog.String("node", g.heir))
		r.election.heir = "" // whoever comes first
	case !time.Now().Before(g.until), g.ctx.Err() != nil:
		r.cfg.Log.Warn("the replica that should take over has not read all in time", slog.String("node", g.heir))
	default:
		return
	}
	r.goNow()
}

// goNow gives the claim up. What was being opened is ended when it is there.
func (r *Replica) goNow() {
	e := r.election
	r.going.heir = ""
	e.state = leaving
	r.opens = 0
	r.abandon()
	began := time.Now()
	if b := r.broker; b != nil {
		r.broker = nil
		if err := r.end(b); err != nil {
			r.cfg.Log.Warn("handing over", slog.Any("error", err))
		}
		r.cfg.Server.Relay("")
	}
	e.release(r.ctx)
	r.cfg.Log.Info("gave way", slog.Duration("took", time.Since(began).Round(time.Millisecond)))
}

// successor finds another replica that is alive and may take over.
func (r *Replica) successor(ctx context.Context) (Member, bool) {
	members, err := r.Members(ctx)
	if err != nil {
		r.cfg.Log.Warn("looking for a replica to hand over to", slog.Any("error", err))
	}
	for _, m := range members {
		if m.Alive && !m.This && m.State != string(leaving) {
			return m, true
		}
	}
	return Member{}, false
}

// Close ends the replica's part, and its broker if it has one. The server should have been shut down before.
func (r *Replica) Close() error {
	r.cancel()
	<-r.stopped
	if r.going != nil {
		r.going.end()
	}
	err := r.end(r.broker)
	r.broker = nil
	r.ends.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), r.election.times.dead)
	defer cancel()
	r.release(ctx)
	if forgot := r.bucket.forget(ctx, r.cfg.Node); forgot != nil && !errors.Is(forgot, context.DeadlineExceeded) {
		err = errors.Join(err, fmt.Errorf("replica: %w", forgot))
	}
	return err
}

// release gives the claim up, if it has it, for as long as ctx lets it try: NATS may have no leader for a moment. At the end of
// the time after which its owner is taken for dead that is of no use any more.
func (r *Replica) release(ctx context.Context) {
	ticker := time.NewTicker(r.election.times.look)
	defer ticker.Stop()
	for r.election.release(ctx); r.election.owns(); r.election.release(ctx) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
