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
	leastFree  = 128 << 20
	mostFree   = 2 << 30
	freeShare  = 20 // a twentieth of the file system
	spaceEvery = time.Second
)

// A spaceWatch looks how much room the disk has. While there is little, the broker takes nothing new and the server is not
// ready: what lets go of things needs some room, too.
type spaceWatch struct {
	store  *disk.Store
	broker *broker.Broker
	server *server.Server
	least  uint64 // 0: by the size of the file system
	log    *slog.Logger

	full bool
	end  chan struct{}
	wg   sync.WaitGroup
}

func watchSpace(store *disk.Store, b *broker.Broker, s *server.Server, least uint64, log *slog.Logger) *spaceWatch {
	w := &spaceWatch{store: store, broker: b, server: s, least: least, log: log, end: make(chan struct{})}
	w.look() // before the first client
	w.wg.Go(w.run)
	return w
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
	least := w.mark(space)
	full := space.Free < least || w.full && space.Free < least+least/16 // not to and fro
	if full == w.full {
		return
	}
	w.full = full
	w.broker.SetDiskFull(full)
	w.server.SetReady(!full)
	level, text := slog.LevelInfo, "the disk has room again: all is taken"
	if full {
		level, text = slog.LevelWarn, "the disk is nearly full: new messages and pipes are refused; make room, or lower --min-free-space"
	}
	w.log.Log(context.Background(), level, text,
		slog.Uint64("free", space.Free), slog.Uint64("wanted", least), slog.Uint64("store", space.Store))
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
