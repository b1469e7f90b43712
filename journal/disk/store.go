package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replyq/replyq/internal/histogram"
	"github.com/replyq/replyq/journal"
)

// A Store is an open directory with the journals of all shards. It is safe for concurrent use.
type Store struct {
	fs      vfs.FS
	dir     directory
	format  format
	options Options
	log     *slog.Logger
	lock    io.Closer
	gate    *gate
	db      *pebble.DB

	ctx    context.Context // ends when the store closes
	cancel context.CancelFunc
	wg     sync.WaitGroup // the goroutines of the store
	mark   chan struct{}  // cap 1: the marks are to be written

	failed  chan error            // cap 1
	ended   chan struct{}         // closed after failure was set
	failure atomic.Pointer[error] // the first error of the disk

	sizes, latencies histogram.Counter

	mu       sync.Mutex
	marks    marks                    // of journals that are not open
	journals map[uint16]*shardJournal // open ones
	users    sync.WaitGroup           // who uses Pebble
	closing  bool
	closed   chan struct{} // Close is done
	closeErr error
}

// Open opens the store in a directory, and makes both if need be. It refuses what another process uses, what is damaged,
// and what only looks like a disk.
func Open(dir string, options Options) (*Store, error) {
	options = options.withDefaults()
	if options.Shards < 0 || options.Shards > 1<<16 {
		return nil, fmt.Errorf("a store of %d shards: 1 to 65536 are possible", options.Shards)
	}
	d := directory{options.fs, dir}
	if !options.Moving {
		if err := d.make(); err != nil {
			return nil, err
		}
	}
	if d.fs == vfs.Default && !options.AllowMemory {
		if err := refuseMemory(dir); err != nil {
			return nil, err
		}
	}
	lock, err := d.lock()
	if err != nil {
		return nil, err
	}
	s := newStore(d, options)
	s.lock = lock
	if err := s.open(options.Shards); err != nil {
		s.cancel()
		return nil, errors.Join(err, lock.Close())
	}
	s.gate.live.Store(true)
	if err := s.err(); err != nil { // of what Pebble began while it was opened
		return nil, errors.Join(err, s.Close())
	}
	s.wg.Go(s.writeMarks)
	if s.options.FsyncInterval > 0 {
		s.wg.Go(s.syncEvery)
	}
	return s, nil
}

func newStore(d directory, options Options) *Store {
	s := &Store{
		fs: d.fs, dir: d, options: options, log: options.Log,
		failed: make(chan error, 1), ended: make(chan struct{}), closed: make(chan struct{}),
		mark: make(chan struct{}, 1), journals: make(map[uint16]*shardJournal),
	}
	s.gate = &gate{FS: d.fs, s: s, path: d.file(logName), lazy: options.FsyncInterval > 0}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *Store) open(shards int) error {
	made, err := s.dir.has(formatName)
	if err != nil {
		return err
	}
	if err := s.dir.checkMoved(s.options.Moving); err != nil {
		return err
	}
	if !made && s.options.Moving {
		return fmt.Errorf("%s has no store", s.dir.path)
	}
	if !made {
		return s.make(max(shards, 1))
	}
	if s.format, err = s.dir.readFormat(); err != nil {
		return err
	}
	if shards != 0 && shards != s.format.shards {
		return fmt.Errorf("%s has %d shards, not %d: their number is fixed when a store is made; start with %d",
			s.dir.path, s.format.shards, shards, s.format.shards)
	}
	if err := s.dir.checkKeys(); err != nil {
		return err
	}
	if s.marks, err = s.dir.readMarks(s.format.shards); err != nil {
		return err
	}
	if err := s.verify(s.marks); err != nil {
		return err
	}
	options := s.pebbleOptions()
	options.ErrorIfNotExists = true
	if err := s.openLog(options); err != nil {
		return err
	}
	// Opening has written out the logs, and they have the traces of what was kept.
	if err := s.dir.write(marksName, s.marks.encode()); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

func (d directory) readFormat() (format, error) {
	file, err := d.read(formatName)
	if err != nil {
		return format{}, err
	}
	f, err := parseFormat(file)
	if errors.Is(err, ErrNewer) {
		return format{}, fmt.Errorf("%s: %w", d.path, err)
	}
	if err != nil {
		return format{}, fmt.Errorf("%w: %s: %w: put the file back from a backup", ErrDamaged, d.file(formatName), err)
	}
	return f, nil
}

func (s *Store) openLog(options *pebble.Options) error {
	db, err := openPebble(s.dir.file(logName), options)
	if err == nil && s.err() != nil { // in the background
		err = errors.Join(s.err(), db.Close())
	}
	if err != nil && options.ErrorIfNotExists {
		err = damagedLog(err)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", s.dir.file(logName), err)
	}
	s.db = db
	return nil
}

// openPebble turns what Pebble makes of damage that it did not expect into an error.
func openPebble(dir string, options *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = damage(fmt.Errorf("%v", r))
		}
	}()
	return pebble.Open(dir, options)
}

// Number returns the number of the store: random, fixed when it was made, and part of every handle.
func (s *Store) Number() uint32 { return s.format.number }

// Shards returns the number of journals.
func (s *Store) Shards() int { return s.format.shards }

// Keys returns the path of the file with the keys that sign handles.
func (s *Store) Keys() string { return s.dir.file(keysName) }

// Journal opens the journal of a shard, one of 0 to Shards-1. A journal is open once at a time.
func (s *Store) Journal(shard int) (journal.Journal, error) {
	if shard < 0 || shard >= s.format.shards {
		return nil, fmt.Errorf("the store has no shard %d: it has %d", shard, s.format.shards)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, journal.ErrClosed
	}
	if s.journals[uint16(shard)] != nil {
		return nil, fmt.Errorf("the journal of shard %d is open already", shard)
	}
	j, err := s.openJournal(uint16(shard))
	if err != nil {
		return nil, err
	}
	s.journals[uint16(shard)] = j
	return j, nil
}

// Close closes all journals and the store. It waits for what is under way, but not longer than 10 seconds for a disk that
// does not answer, and not at all for one that has failed: what is under way then stays so, and the directory stays locked,
// until the process ends. Closing again does nothing, and returns the same.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.closed
		return s.closeErr
	}
	s.closing = true
	journals := make([]*shardJournal, 0, len(s.journals))
	for _, j := range s.journals {
		journals = append(journals, j)
	}
	s.mu.Unlock()

	done := make(chan error, 1)
	go func() { done <- s.close(journals) }()
	select {
	case s.closeErr = <-done:
	case <-s.ended:
		s.cancel()
		s.closeErr = s.err()
	case <-time.After(s.options.closeWait):
		s.closeErr = s.silent()
	}
	close(s.closed)
	return s.closeErr
}

// silent is what closing says of a disk that does not answer.
func (s *Store) silent() error {
	return fmt.Errorf("%s: the disk did not answer for %v; what was confirmed is kept", s.dir.path, s.options.closeWait)
}

func (s *Store) close(journals []*shardJournal) error {
	var err error
	for _, j := range journals {
		err = errors.Join(err, j.Close())
	}
	s.cancel()
	s.wg.Wait()
	s.users.Wait() // for ever, if one is held at the gate
	return errors.Join(err, s.closeLog(), s.lock.Close())
}

func (s *Store) closeLog() error {
	err := s.err()
	if err == nil {
		// What is in tables has checksums all over. At the end of a log, damage and a crash look the same.
		err = s.db.Flush()
	}
	if err == nil {
		err = s.dir.write(marksName, s.kept().encode())
	}
	return errors.Join(err, s.db.Close())
}
