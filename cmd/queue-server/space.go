package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal/disk"
	"github.com/replyq/replyq/server"
)

// How much room there has to be unless --min-free-space says so.
const (
	leastFree = 128 << 20
	mostFree  = 2 << 30
	freeShare = 20 // a twentieth of the file system
	// spaceEvery is so short that even a fast disk does not take leastFree meanwhile.
	spaceEvery = 100 * time.Millisecond
)

// A spaceWatch looks ten times a second how much room the disk has. While there is little, the broker takes nothing new and
// the server is not ready: what lets go of things needs some room, too.
type spaceWatch struct {
	store  store
	broker *broker.Broker
	server *server.Server
	least  uint64 // 0: by the size of the file system
	log    *slog.Logger

	end chan struct{}
	wg  sync.WaitGroup

	mu     sync.Mutex
	full   bool
	space  disk.Space // as it was last
	wanted uint64     // free bytes
}

// A store is what the watch looks at: a [disk.Store].
type store interface {
	Space() (disk.Space, error)
	Stats() disk.Stats
}

func newSpaceWatch(store store, least uint64, log *slog.Logger) *spaceWatch {
	return &spaceWatch{store: store, least: least, log: log, end: make(chan struct{})}
}

// start looks for the first time, before there is a client, and then again and again.
func (w *spaceWatch) start(b *broker.Broker, s *server.Server) {
	w.broker, w.server = b, s
	w.look()
	w.wg.Go(w.run)
}

func (w *spaceWatch) run() {
	ticker := time.NewTicker(spaceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.look()
		case <-w.end:
			return
		}
	}
}

func (w *spaceWatch) look() {
	space, err := w.store.Space()
	if err != nil {
		return // what is wrong with the disk shows in the journal
	}
	if w.note(space) {
		w.tell(space)
	}
}

// note reports whether it has become full, or has room again.
func (w *spaceWatch) note(space disk.Space) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.space, w.wanted = space, w.mark(space)
	was := w.full
	w.full = space.Free < w.wanted || was && space.Free < w.wanted+w.wanted/16 // not to and fro
	return w.full != was
}

func (w *spaceWatch) tell(space disk.Space) {
	full := w.isFull()
	w.broker.SetDiskFull(full)
	w.server.SetReady(!full)
	level, text := slog.LevelInfo, "the disk has room again: all is taken"
	if full {
		level, text = slog.LevelWarn, "the disk is nearly full: new messages and pipes are refused; make room, or lower --min-free-space"
	}
	w.log.Log(context.Background(), level, text,
		slog.Uint64("free", space.Free), slog.Uint64("wanted", w.mark(space)), slog.Uint64("store", space.Store))
}

func (w *spaceWatch) isFull() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full
}

// figures are what the server tells of the store.
func (w *spaceWatch) figures(context.Context) server.JournalFigures {
	st := w.store.Stats()
	w.mu.Lock()
	defer w.mu.Unlock()
	return server.JournalFigures{
		Batches: st.Batches, Bytes: st.Bytes, Written: st.Written,
		Sizes: st.Size.Counts[:], SizeSum: st.Size.Sum, Latencies: st.Latency.Counts[:], LatencySum: st.Latency.Sum,
		Store: w.space.Store, Free: w.space.Free, WantsFree: w.wanted, NearlyFull: w.full,
	}
}

// mark is how much room there has to be.
func (w *spaceWatch) mark(space disk.Space) uint64 {
	if w.least > 0 {
		return w.least
	}
	return min(max(space.Total/freeShare, leastFree), mostFree)
}

// close ends the watch. A disk that hangs makes Space hang, too: that is not waited for.
func (w *spaceWatch) close() {
	close(w.end)
	within(time.Second, func() error { w.wg.Wait(); return nil })
}
