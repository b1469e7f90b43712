package replica

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal/cluster"
)

// An owner that is about to leave names its heir in the claim. The heir reads the logs along, while the owner serves on, and
// tells when it has: then the owner gives way, and little is left to read. Who comes to be owner in another way reads all.

// A standby is what this replica reads along.
type standby struct {
	boot   string // of the owner whose heir this replica is
	cancel context.CancelFunc
	done   chan struct{} // closed when it has read what there was, or failed

	// When done is closed:
	state     *broker.Standby
	followers []*cluster.Follower
	err       error
}

const (
	// alongPasses is how often the heir reads at most what has come meanwhile, and alongEnough after how few bytes it is
	// content.
	alongPasses = 5
	alongEnough = 1 << 20
)

// prepare reads along if this replica is the owner's heir, and stops when it is not any more.
func (r *Replica) prepare() {
	e := r.election
	c := e.claim
	heir := c.Heir == r.cfg.Node
	if s := r.standby; s != nil && (!heir || c.Node != "" && c.Boot != s.boot) {
		r.drop()
	}
	if r.standby == nil && heir && c.Node != "" && c.Boot != r.declined {
		r.readAlong(c)
	}
	s := r.standby
	if s == nil || e.ready == s.boot || !s.over() {
		return
	}
	if s.err != nil {
		r.cfg.Log.Warn("reading along failed: taking over will take longer", slog.Any("error", s.err))
		r.declined = s.boot
		r.drop()
	}
	e.ready, e.told = c.Boot, time.Time{} // it is told at once
}

// drop forgets what was read along.
func (r *Replica) drop() {
	r.standby.cancel()
	r.standby, r.election.ready = nil, ""
}

func (r *Replica) readAlong(c claim) {
	store := r.cfg.Store
	ctx, cancel := context.WithCancel(r.ctx)
	s := &standby{
		boot: c.Boot, cancel: cancel, done: make(chan struct{}), state: broker.NewStandby(store.Number(), store.Shards()),
	}
	for shard := range store.Shards() {
		s.followers = append(s.followers, store.Follow(shard))
	}
	r.standby = s
	r.cfg.Log.Info("reading along, to take over soon", slog.String("from", c.Node))
	r.ends.Go(func() {
		defer close(s.done)
		defer cancel()
		began := time.Now()
		if s.err = s.read(ctx); s.err == nil {
			all := s.state.Read()
			r.cfg.Log.Info("read along", slog.Int64("bytes", all.Bytes), slog.Int("messages", all.Messages), slog.Int("pipes", all.Pipes),
				slog.Duration("took", rounded(time.Since(began))))
		}
	})
}

// read reads until hardly anything has come meanwhile.
func (s *standby) read(ctx context.Context) error {
	for range alongPasses {
		before := s.state.Read().Bytes
		if err := s.pass(ctx); err != nil {
			return err
		}
		if s.state.Read().Bytes-before < alongEnough {
			break
		}
	}
	return nil
}

// pass reads all shards, as many at a time as there are processors.
func (s *standby) pass(ctx context.Context) error {
	errs := make([]error, len(s.followers))
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	var reads sync.WaitGroup
	for shard, f := range s.followers {
		room <- struct{}{}
		reads.Go(func() {
			errs[shard] = s.state.Replay(shard, f.Read(ctx))
			<-room
		})
	}
	reads.Wait()
	return errors.Join(errs...)
}

func (s *standby) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// takeStandby returns what was read along, if that is of use, for an owner to go on from.
func (r *Replica) takeStandby() *standby {
	s := r.standby
	if s == nil {
		return nil
	}
	useful := s.over() && s.err == nil
	r.drop()
	if !useful {
		return nil
	}
	return s
}
