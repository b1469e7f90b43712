package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/replyq/replyq/journal"
)

// A keeper writes a shard's facts to its journal and releases what waits for them. While one batch is being kept the
// next one gathers, so one append serves all operations that came meanwhile. What it does when the journal does not keep
// up is in stall.go.
//
// Its fields are guarded by the runner's lock.
type keeper struct {
	runner   *runner
	journal  journal.Journal
	ctx      context.Context // ends when the keeper closes
	cancel   context.CancelFunc
	wake     chan struct{} // cap 1
	wg       sync.WaitGroup
	patience time.Duration // how long an append may take until who waits is told
	most     int           // bytes of facts that may wait

	facts   []byte // to be kept next
	next    bundle // waits for facts
	spare   spareMemory
	writing bool        // an append is under way
	now     bundle      // waits for that append
	began   time.Time   // zero: there was nothing to append
	size    int         // of its facts
	slow    *time.Timer // fires when it may have taken too long
	watched bool        // slow is set

	lease func() bool // see vouch.go; nil: nothing else can own the journal
	lag   *lagging    // see lagging.go; nil if the journal cannot lag

	stalled bool  // an append takes too long
	late    bool  // the shard's time stands still
	failed  error // the journal has ended: nothing more is released
	log     logSize

	trimming bool

	gatherer gatherer
	busy     bool // many wait for the last append; for the keeper's goroutine only
}

// With more events than this in a batch the next one is worth waiting for, until others have had their turn.
const fewEvents = 8

// spareMemory is what the batch before the one under way was gathered in. Using it again saves 62 % of what a durable
// server allocates.
type spareMemory struct {
	facts []byte
	out   []outgoing
}

// sparedMost is how many bytes of facts, or events, are worth keeping memory for.
const sparedMost = 1 << 20

func (s *spareMemory) keep(facts []byte, out []outgoing) {
	if cap(facts) <= sparedMost {
		s.facts = facts[:0]
	}
	if cap(out)*eventSize <= sparedMost {
		s.out = out[:0]
	}
}

func newKeeper(r *runner, j journal.Journal, cfg *Config) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{
		runner: r, journal: j, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1),
		patience: cmp.Or(cfg.JournalPatience, defaultJournalPatience), most: cmp.Or(cfg.MaxUnkept, defaultMaxUnkept),
		lease:    cfg.Lease,
		gatherer: newGatherer(),
		log:      logSize{slack: cmp.Or(cfg.JournalSlack, defaultSlack), least: leastCarried, most: mostCarried},
	}
	if l, ok := j.(lagger); ok {
		k.lag = &lagging{journal: l}
	}
	return k
}

func (k *keeper) start() {
	k.slow = time.AfterFunc(time.Hour, k.tooSlow)
	k.slow.Stop()
	k.startLagging()
	k.wg.Go(k.write)
}

// putLocked takes over what the shard left. What no unkept fact precedes is released at once.
func (k *keeper) putLocked(s *shard, wait *keptWait) (carry bool) {
	if k.failed != nil {
		// The shard has facts that nobody will know: what it says is not said any more.
		cutOff(s.out, k.failureLocked())
		clear(s.out)
		s.out, s.sends, s.facts = s.out[:0], nil, s.facts[:0]
		wait.end(false)
		return false
	}
	k.facts = append(k.facts, s.facts...)
	s.facts = s.facts[:0]
	k.next.out = append(k.next.out, s.out...)
	clear(s.out)
	s.out = s.out[:0]
	k.next.sends = append(k.next.sends, s.sends...)
	s.sends = nil
	if wait != nil {
		k.next.waits = append(k.next.waits, wait)
	}
	if len(k.facts) == 0 && !k.writing && k.next.isEmpty() {
		return false
	}
	if len(k.facts) == 0 && !k.writing && k.vouchedLocked() {
		b := k.next
		k.next = bundle{}
		carry = k.releaseLocked(b)
		k.next.out = b.out[:0]
		return carry
	}
	if k.stalled {
		k.cutWaitingLocked(&k.next, errJournalSlow())
	}
	k.gatherer.addedLocked(len(k.next.out))
	k.wakeWriter()
	return false
}

func (k *keeper) wakeWriter() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) releaseLocked(b bundle) (carry bool) {
	k.runner.handOverLocked(b.out)
	clear(b.out)
	for _, w := range b.waits {
		w.end(true)
	}
	k.runner.sends = append(k.runner.sends, b.sends...)
	return len(b.sends) > 0
}

// write is the keeper's goroutine: it appends what has gathered, batch after batch.
func (k *keeper) write() {
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.wake:
		}
		for more := true; more; more = k.writeOne() {
			if k.busy {
				k.gather()
			}
		}
	}
}

func (k *keeper) writeOne() (more bool) {
	r := k.runner
	r.mu.Lock()
	if k.failed != nil {
		r.mu.Unlock()
		return false
	}
	facts, size, over := k.facts, len(k.facts), false
	alone := k.lagsLocked()
	if size > 0 || alone {
		facts, over = k.log.carry(r.shard.st, facts, alone)
	}
	if len(facts) == 0 && k.next.isEmpty() {
		k.busy = false
		r.mu.Unlock()
		return alone // it looks at more of the shard then
	}
	appends := len(facts) > 0 || !k.vouchedLocked()
	k.now, k.facts, k.next, k.writing, k.size = k.next, k.spare.facts, bundle{out: k.spare.out}, true, size
	k.spare = spareMemory{}
	k.busy = len(k.now.out) > fewEvents
	k.began = time.Time{}
	if appends {
		k.began = time.Now()
		if !k.watched { // setting it for each append would wake the network poller each time
			k.watched = true
			k.slow.Reset(k.patience)
		}
	}
	r.mu.Unlock()
	var err error
	var at, needed journal.Position
	if appends {
		if at, err = k.journal.Append(k.ctx, facts); errors.Is(err, journal.ErrDeposed) {
			r.broker.over.CompareAndSwap(nil, errOwnerChanged()) // before anybody is told anything else
		}
	}
	r.mu.Lock()
	if err == nil && appends {
		needed = k.log.appended(at, len(facts), len(facts) > k.size, over)
	}
	b := k.now
	if appends {
		k.gatherer.toldLocked(len(b.out), time.Since(k.began))
	}
	if k.failed != nil { // meanwhile, with another shard's journal
		r.mu.Unlock()
		return false
	}
	if err != nil {
		k.failLocked(err)
		r.mu.Unlock()
		if k.ctx.Err() == nil {
			r.broker.journalEnded(r.number, err)
		}
		return false
	}
	if over {
		k.caughtUpLocked()
	}
	k.now, k.writing, k.size = bundle{}, false, 0
	trim := needed > 0 && !k.trimming
	k.trimming = k.trimming || trim
	tell := k.goOnLocked()
	carry := k.releaseLocked(b)
	k.spare.keep(facts, b.out)
	woken := r.takeWokenLocked()
	r.mu.Unlock()
	woken.wake()
	if carry {
		r.broker.carry(r)
	}
	tell()
	if trim {
		k.wg.Go(func() { k.trim(needed) })
	}
	return true
}

// trim forgets what the journal has before a position, beside the appends. If that fails, the next round tries again.
func (k *keeper) trim(before journal.Position) {
	defer func() {
		k.runner.mu.Lock()
		k.trimming = false
		k.runner.mu.Unlock()
	}()
	if err := k.journal.Trim(k.ctx, before); err != nil && k.ctx.Err() == nil && !errors.Is(err, journal.ErrDeposed) {
		k.runner.log.Warn("the journal was not trimmed", "shard", k.runner.number, "error", err)
	}
}

// flush returns when all that waits now is kept, or does not seem to be for long.
func (k *keeper) flush() (kept bool) {
	r := k.runner
	w := &keptWait{done: make(chan struct{})}
	r.mu.Lock()
	switch {
	case k.failed != nil || k.stalled:
		r.mu.Unlock()
		return false
	case len(k.facts) == 0 && !k.writing && k.next.isEmpty():
		r.mu.Unlock()
		return true
	}
	k.next.waits = append(k.next.waits, w)
	k.wakeWriter()
	r.mu.Unlock()
	<-w.done
	return w.kept
}

// close keeps what is left, if that goes on, and closes the journal.
func (k *keeper) close() error {
	var lost error
	if !k.flush() {
		lost = k.loss()
	}
	k.cancel()
	k.stopLagging()
	k.wg.Wait()
	if k.slow != nil { // it was started
		k.slow.Stop()
	}
	k.runner.mu.Lock()
	if k.failed == nil {
		k.failLocked(journal.ErrClosed)
	}
	k.runner.mu.Unlock()
	err := k.journal.Close()
	if errors.Is(err, journal.ErrDeposed) {
		err = nil // which was reported
	}
	return errors.Join(lost, err)
}

// loss says what a stop would not wait for; nil if it is nothing, or if the journal has failed, which was reported.
func (k *keeper) loss() error {
	k.runner.mu.Lock()
	defer k.runner.mu.Unlock()
	if k.failed != nil || k.size+len(k.facts) == 0 {
		return nil
	}
	return fmt.Errorf("broker: the journal of shard %d has stalled: %d bytes of facts may be lost, of which nobody was told",
		k.runner.number, k.size+len(k.facts))
}
