package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/disk"
	"github.com/replyq/replyq/server"
)

// openStore opens the store of --data-dir; nil without one.
func (c *serveCmd) openStore(log *slog.Logger) (*disk.Store, error) {
	if c.DataDir == "" {
		return nil, nil
	}
	return disk.Open(c.DataDir, disk.Options{
		Shards: c.Shards, FsyncInterval: c.FsyncInterval, Log: log, AllowMemory: c.AllowTmpfs,
	})
}

// keepIn makes a broker keep what it has in a store.
func keepIn(store *disk.Store, log *slog.Logger, cfg *broker.Config) {
	cfg.Store, cfg.Shards = store.Number(), store.Shards()
	cfg.Journal = func(shard uint16) (journal.Journal, error) { return store.Journal(int(shard)) }
	size := uint64(0)
	if space, err := store.Space(); err == nil { // without it, no share is told
		size = space.Store
	}
	cfg.Restoring = tellRestoring(log, store.Shards(), size)
}

// tellRestoring logs how far shards are restored. The size is that of the store, 0 if it is not known.
func tellRestoring(log *slog.Logger, shards int, size uint64) func(broker.Restored) {
	p := newProgress(log, "restoring", size)
	before := make([]broker.Restored, shards)
	return func(r broker.Restored) {
		before[r.Shard] = r
		var all broker.Restored
		for _, one := range before {
			all.Bytes += one.Bytes
			all.Messages += one.Messages
			all.Pipes += one.Pipes
		}
		p.tell(uint64(all.Bytes), slog.Int("messages", all.Messages), slog.Int("pipes", all.Pipes))
	}
}

// durability is what a server tells of a store.
func (c *serveCmd) durability(cfg *server.Config) {
	if c.FsyncInterval == 0 {
		cfg.Durability = server.OnDisk
		cfg.DurabilityDescription = "disk: what was confirmed is on the disk (fsync), and survives the end of the process and of power"
		return
	}
	cfg.Durability = server.OnDiskLazily
	cfg.DurabilityDescription = fmt.Sprintf("disk, lazily: what was confirmed survives the end of the process; a power cut loses up to the last %v",
		c.FsyncInterval)
}

// codeOf is the exit code for what keeps a store from being opened.
func codeOf(err error) int {
	if errors.Is(err, disk.ErrDamaged) {
		return exitDamaged
	}
	return exitFailed
}

// A progress tells, once a second, how far something has come that may take long.
type progress struct {
	log  *slog.Logger
	what string
	of   uint64 // bytes at the most; 0 if not known
	last time.Time
}

func newProgress(log *slog.Logger, what string, of uint64) *progress {
	return &progress{log: log, what: what, of: of, last: time.Now()}
}

func (p *progress) tell(bytes uint64, more ...any) {
	if now := time.Now(); now.Sub(p.last) >= time.Second {
		p.last = now
		if p.of > 0 {
			more = append([]any{slog.Uint64("of", max(p.of, bytes))}, more...)
		}
		p.log.Info(p.what, append([]any{slog.Uint64("bytes", bytes)}, more...)...)
	}
}
