package client

import "time"

// A call has to be cancelled when its context ends, also while nobody waits for it. Watching every context costs more
// than the rest of the call. So the link watches only those calls that have grown older than a tick: most never do.

// watcher is a sink that wants to know when its operation is not young any more.
type watcher interface{ watch() }

func (l *link) addYoungLocked(op *operation) {
	op.isYoung, op.born = true, l.ticks
	op.youngPrev, op.youngNext = l.young.last, nil
	if l.young.last == nil {
		l.young.first = op
	} else {
		l.young.last.youngNext = op
	}
	l.young.last = op
	l.young.n++
	if l.ticking == nil {
		l.ticking = time.AfterFunc(tickTime, l.tick)
	}
}

func (l *link) removeYoungLocked(op *operation) {
	op.isYoung = false
	if op.youngPrev == nil {
		l.young.first = op.youngNext
	} else {
		op.youngPrev.youngNext = op.youngNext
	}
	if op.youngNext == nil {
		l.young.last = op.youngPrev
	} else {
		op.youngNext.youngPrev = op.youngPrev
	}
	op.youngPrev, op.youngNext = nil, nil
	l.young.n--
}

// tick takes operations that were there at the last tick already from the young, and has them watched.
func (l *link) tick() {
	var grown []watcher
	l.mu.Lock()
	for op := l.young.first; op != nil && op.born < l.ticks; op = l.young.first {
		l.removeYoungLocked(op)
		if w, ok := op.sink.(watcher); ok {
			grown = append(grown, w)
		}
	}
	l.ticks++
	if l.young.n == 0 || l.closed {
		l.ticking = nil
	} else {
		l.ticking.Reset(tickTime)
	}
	l.mu.Unlock()
	for _, w := range grown {
		w.watch()
	}
}
