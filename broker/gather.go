package broker

import (
	"runtime"
	"time"
)

// A gatherer has the keeper wait, after an append that took its time and told many, until as many have come again: they share
// the next append then. Without it, of all that are in flight one half waits while the other is kept, and each append has half
// of them.
//
// Its fields are guarded by the runner's lock, but for those of the keeper's goroutine.
type gatherer struct {
	told  int           // by the last append; events
	took  time.Duration // it
	want  int           // so many events end the waiting; 0: nobody waits
	full  chan struct{} // cap 1: they are there
	timer *time.Timer   // of the keeper's goroutine
}

const (
	// gatherPart is the part of an append's time that is waited for at most, and gatherMost a limit in any case.
	gatherPart = 4
	gatherMost = time.Millisecond
	// Less than gatherLeast is not worth a timer: then only those have their turn who are about to run (2 to 5 % of all CPU).
	gatherLeast = 200 * time.Microsecond
)

func newGatherer() gatherer {
	g := gatherer{full: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	g.timer.Stop()
	return g
}

// toldLocked notes an append.
func (g *gatherer) toldLocked(events int, took time.Duration) { g.told, g.took = events, took }

// addedLocked is called when something was added to what waits.
func (g *gatherer) addedLocked(events int) {
	if g.want == 0 || events < g.want {
		return
	}
	g.want = 0
	select {
	case g.full <- struct{}{}:
	default:
	}
}

// gather waits, if that is worth it.
func (k *keeper) gather() {
	g := &k.gatherer
	r := k.runner
	r.mu.Lock()
	limit := min(g.took/gatherPart, gatherMost)
	worth := limit >= gatherLeast && g.told > fewEvents
	if worth {
		g.want = len(k.next.out) + g.told
	}
	r.mu.Unlock()
	if !worth {
		runtime.Gosched()
		return
	}
	g.timer.Reset(limit)
	select {
	case <-g.full:
	case <-g.timer.C:
	case <-k.ctx.Done():
	}
	g.timer.Stop()
	r.mu.Lock()
	g.want = 0
	r.mu.Unlock()
	select {
	case <-g.full: // too late
	default:
	}
}
