package disk

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options for [Open]. The zero Options are good for one shard.
type Options struct {
	// Shards is the number of journals. It is fixed when the store is made; 0 stands for 1 in a new store, and for what
	// it has in an old one.
	Shards int
	// FsyncInterval, if not 0, keeps batches without waiting for the disk, and fsyncs them this often: a power cut loses
	// what came since. 0 fsyncs before a batch counts as kept.
	FsyncInterval time.Duration
	// Log is for what an operator has to know, and at level debug for what Pebble says. Default: nothing is logged.
	Log *slog.Logger
	// AllowMemory takes a directory in memory too (tmpfs, ramfs), which survives the process and not the machine.
	AllowMemory bool
	// Moving opens the store to move it: it has to be there, and may have been marked with [Store.MarkMoved] before.
	Moving bool

	// For tests:
	fs        vfs.FS // the operating system's else
	memTable  uint64
	closeWait time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.memTable == 0 {
		o.memTable = memTable
	}
	if o.closeWait == 0 {
		o.closeWait = closeWait
	}
	return o
}

const (
	// closeWait is how long closing waits for a disk that does not answer.
	closeWait = 10 * time.Second
	// memTable is how much is in memory before it is written out, and so about the size of a write-ahead log. Six of them,
	// and some tables of this size that are no longer needed, are there at any time: smaller is smaller, and as quick.
	memTable = 4 << 20
	// cache is for recent blocks. A log is read once, from its beginning to its end: there is little to gain.
	cache = 8 << 20
)

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:     s.gate,
		Logger: pebbleLog{s},
		// The next one has logs say how far they were synced, which a lazy store, whose fsyncs are put off behind Pebble's
		// back, must not say: after a power cut the end that is lost would look damaged. Marks notice what is lost inside.
		FormatMajorVersion:          pebble.FormatColumnarBlocks,
		CacheSize:                   cache,
		MemTableSize:                s.options.memTable,
		MemTableStopWritesThreshold: 4,
	}
	o.EventListener = s.events()
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return o
}
