package broker

import "time"

// Journals that share a log can trim it only as far as all of them can. So a shard in which nothing happens has to give
// way: when its journal says that it lags, a round begins (round.go), and goes on without facts to go with. The last record
// of a round is the shard's own, so even an empty one has something to append, and its head moves on.

// A lagger is a journal that can hold others back.
type lagger interface {
	// Lagging reports whether this journal's head keeps a shared log from being trimmed. It must not block.
	Lagging() bool
}

// lagPoll is how often a journal is asked whether it lags: a round does not begin sooner after another one either, so what
// others hold back makes no work here without an end.
const lagPoll = time.Second

// lagging is the part of a keeper for a journal that can lag. Its fields are guarded by the runner's lock.
type lagging struct {
	journal lagger
	round   bool // one is under way, or about to begin, that does not wait for facts
	ask     *time.Timer
	stopped bool
}

func (k *keeper) startLagging() {
	if k.lag == nil {
		return
	}
	k.runner.mu.Lock()
	defer k.runner.mu.Unlock()
	k.lag.ask = time.AfterFunc(lagPoll, k.askLagging)
}

func (k *keeper) stopLagging() {
	if k.lag == nil {
		return
	}
	k.runner.mu.Lock()
	defer k.runner.mu.Unlock()
	k.lag.stopped = true
	if k.lag.ask != nil {
		k.lag.ask.Stop()
	}
}

// askLagging is called from time to time.
func (k *keeper) askLagging() {
	l := k.lag
	k.runner.mu.Lock()
	defer k.runner.mu.Unlock()
	if l.stopped || k.failed != nil {
		return
	}
	l.ask.Reset(lagPoll)
	if !l.round && !k.trimming && !k.stalled && !k.runner.shard.frozen && l.journal.Lagging() {
		l.round = true
		k.wakeWriter()
	}
}

// lagsLocked reports whether records are to be appended, with facts or without.
func (k *keeper) lagsLocked() bool { return k.lag != nil && k.lag.round && !k.runner.shard.frozen }

// caughtUpLocked notes that a round is over.
func (k *keeper) caughtUpLocked() {
	if k.lag != nil {
		k.lag.round = false
	}
}
