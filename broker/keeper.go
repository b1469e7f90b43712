package broker

import (
	"context"
	"sync"

	"github.com/replyq/replyq/journal"
)

// A keeper writes a shard's facts to its journal and releases what waits for them. While one batch is being kept the
// next one gathers, so one append serves all operations that came meanwhile.
//
// Its fields are guarded by the runner's lock.
type keeper struct {
	runner  *runner
	journal journal.Journal
	ctx     context.Context // ends when the keeper closes
	cancel  context.CancelFunc
	wake    chan struct{} // cap 1
	wg      sync.WaitGroup

	facts   []byte // to be kept next
	next    bundle // waits for facts
	writing bool   // an append is under way
	failed  bool   // the journal has ended: nothing more is released
	log     logSize
}

func newKeeper(r *runner, j journal.Journal, log logSize) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	return &keeper{runner: r, journal: j, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), log: log}
}

func (k *keeper) start() { k.wg.Go(k.write) }

// putLocked takes over what the shard left. What no unkept fact precedes is released at once.
func (k *keeper) putLocked(s *shard, kept chan struct{}) (carry bool) {
	if k.failed {
		// The shard has facts that nobody will know: what it says is not said any more.
		clear(s.out)
		s.out, s.sends, s.facts = s.out[:0], nil, s.facts[:0]
		if kept != nil {
			close(kept)
		}
		return false
	}
	k.facts = append(k.facts, s.facts...)
	s.facts = s.facts[:0]
	k.next.out = append(k.next.out, s.out...)
	clear(s.out)
	s.out = s.out[:0]
	k.next.sends = append(k.next.sends, s.sends...)
	s.sends = nil
	if kept != nil {
		k.next.done = append(k.next.done, kept)
	}
	if len(k.facts) == 0 && !k.writing {
		b := k.next
		k.next = bundle{}
		return k.releaseLocked(b)
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return false
}

func (k *keeper) releaseLocked(b bundle) (carry bool) {
	k.runner.handOverLocked(b.out)
	for _, done := range b.done {
		close(done)
	}
	k.runner.sends = append(k.runner.sends, b.sends...)
	return len(b.sends) > 0
}

// write is the keeper's goroutine: it appends what has gathered, batch after batch.
func (k *keeper) write() {
	r := k.runner
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.wake:
		}
		for k.writeOne(r) {
		}
	}
}

func (k *keeper) writeOne(r *runner) (more bool) {
	r.mu.Lock()
	facts, b := k.facts, k.next
	if len(facts) == 0 && len(b.out) == 0 && len(b.sends) == 0 && len(b.done) == 0 || k.failed {
		r.mu.Unlock()
		return false
	}
	k.facts, k.next, k.writing = nil, bundle{}, true
	own, over := len(facts), false
	if own > 0 {
		facts, over = k.log.carry(r.shard.st, facts)
	}
	r.mu.Unlock()
	var err error
	var at, needed journal.Position
	if len(facts) > 0 {
		at, err = k.journal.Append(k.ctx, facts)
	}
	r.mu.Lock()
	k.writing = false
	if err == nil && len(facts) > 0 {
		needed = k.log.appended(at, len(facts), len(facts) > own, over)
	}
	if err != nil {
		k.failed = true
		for _, done := range append(b.done, k.next.done...) {
			close(done)
		}
		k.next = bundle{}
		r.mu.Unlock()
		if k.ctx.Err() == nil {
			r.log.Error("the journal failed; nothing more is confirmed until a restart", "shard", r.number, "error", err)
		}
		return false
	}
	carry := k.releaseLocked(b)
	woken := r.takeWokenLocked()
	r.mu.Unlock()
	woken.wake()
	if carry {
		r.broker.carry(r)
	}
	if needed > 0 {
		k.trim(needed)
	}
	return true
}

// trim forgets what the journal has before a position. If that fails, the next round tries again.
func (k *keeper) trim(before journal.Position) {
	if err := k.journal.Trim(k.ctx, before); err != nil && k.ctx.Err() == nil {
		k.runner.log.Warn("the journal was not trimmed", "shard", k.runner.number, "error", err)
	}
}

func (k *keeper) close() error {
	k.cancel()
	k.wg.Wait()
	k.runner.mu.Lock()
	b := k.next
	k.next = bundle{}
	k.failed = true // who waits is let go, and learns nothing
	for _, done := range b.done {
		close(done)
	}
	k.runner.mu.Unlock()
	return k.journal.Close()
}
