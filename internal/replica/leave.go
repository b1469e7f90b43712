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
}

func (g *goodbye) end() {
	if !g.ended {
		g.ended = true
		close(g.done)
	}
}

// Leave gives way: this replica does not take over any more and, if it is the owner and there is another replica, hands over
// to that one. It returns when another one is the owner or, after a while or at ctx's end, when none could be found. From
// then on it relays, or serves if it is alone, until it is closed.
func (r *Replica) Leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, giveWayTime)
	defer cancel()
	g := &goodbye{ctx: ctx, done: make(chan struct{})}
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
	if !r.hasSuccessor(g.ctx) {
		r.cfg.Log.Info("there is no other replica to hand over to")
		g.end()
		return
	}
	e.state = leaving
	r.opens = 0 // what is being opened is ended when it is there
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

// hasSuccessor reports whether another replica is alive that may take over.
func (r *Replica) hasSuccessor(ctx context.Context) bool {
	members, err := r.Members(ctx)
	if err != nil {
		r.cfg.Log.Warn("looking for a replica to hand over to", slog.Any("error", err))
	}
	for _, m := range members {
		if m.Alive && !m.This && m.State != string(leaving) {
			return true
		}
	}
	return false
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
	ctx, cancel := context.WithTimeout(context.Background(), r.election.times.try)
	defer cancel()
	r.election.release(ctx)
	if forgot := r.bucket.forget(ctx, r.cfg.Node); forgot != nil && !errors.Is(forgot, context.DeadlineExceeded) {
		err = errors.Join(err, fmt.Errorf("replica: %w", forgot))
	}
	return err
}
