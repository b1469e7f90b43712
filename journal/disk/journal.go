package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replyq/replyq/journal"
)

// A shardJournal is the journal of one shard.
type shardJournal struct {
	s      *Store
	shard  uint16
	format byte

	// work takes batches to the goroutine that commits them, so that Append can leave one that a disk holds.
	work chan *commit
	done chan struct{} // closed when that goroutine has ended
	end  chan struct{} // closed by Close

	mu     sync.Mutex
	first  journal.Position // of the first batch that is not trimmed
	last   journal.Position // of the last batch that is kept; first-1 when there is none
	err    error            // why nothing can be appended any more
	closed bool
}

type commit struct {
	batch  *pebble.Batch
	result chan error // cap 1
}

func (s *Store) openJournal(shard uint16) (*shardJournal, error) {
	first, last, err := s.bounds(shard)
	if err != nil {
		return nil, err
	}
	j := &shardJournal{
		s: s, shard: shard, format: batchFormat, first: first, last: last,
		work: make(chan *commit), done: make(chan struct{}), end: make(chan struct{}),
	}
	if s.options.FsyncInterval > 0 {
		j.format = batchLazy // see gate
	}
	go j.commit()
	return j, nil
}

// commit is the goroutine that waits for the disk.
func (j *shardJournal) commit() {
	defer close(j.done)
	for {
		select {
		case c := <-j.work:
			c.result <- j.s.commit(c.batch, pebble.Sync)
		case <-j.end:
			return
		}
	}
}

// Append implements [journal.Journal].
func (j *shardJournal) Append(ctx context.Context, batch []byte) (journal.Position, error) {
	j.mu.Lock()
	p, err := j.last+1, j.err
	j.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = j.append(ctx, p, batch)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		if j.err == nil {
			j.err = err
		}
		return 0, j.err
	}
	j.last = p
	return p, nil
}

func (j *shardJournal) append(ctx context.Context, p journal.Position, batch []byte) error {
	began := time.Now()
	key := batchKey(j.shard, p)
	b := j.s.db.NewBatchWithSize(len(batch) + 64)
	op := b.SetDeferred(len(key), headerSize+len(batch))
	copy(op.Key, key[:])
	encodeBatch(op.Value, j.format, key[:], batch)
	if err := op.Finish(); err != nil {
		return err
	}
	err := j.hand(ctx, b)
	if err == nil {
		err = b.Close()
		j.s.count(len(batch), began)
	}
	return err
}

// hand gives a batch to the goroutine that commits it, and waits for that.
func (j *shardJournal) hand(ctx context.Context, b *pebble.Batch) error {
	c := &commit{b, make(chan error, 1)}
	select {
	case j.work <- c:
	case <-j.end:
		return journal.ErrClosed
	}
	select {
	case err := <-c.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-j.s.ended:
		return j.s.err()
	}
}

// Read implements [journal.Journal].
func (j *shardJournal) Read(ctx context.Context, from journal.Position) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		j.mu.Lock()
		first, last, closed := j.first, j.last, j.closed
		j.mu.Unlock()
		if closed || j.s.enter() != nil {
			yield(journal.Record{}, journal.ErrClosed)
			return
		}
		defer j.s.leave()
		if err := j.s.read(ctx, j.shard, max(from, first), last, yield); err != nil {
			yield(journal.Record{}, err)
		}
	}
}

// Trim implements [journal.Journal].
func (j *shardJournal) Trim(ctx context.Context, before journal.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	first, last, closed := j.first, j.last, j.closed
	j.mu.Unlock()
	if closed {
		return journal.ErrClosed
	}
	before = min(before, last+1)
	if before <= first {
		return nil
	}
	// Kept like a batch: what is trimmed does not come back.
	if err := j.s.await(ctx, func() error { return j.s.trim(j.shard, first, before) }); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.first = max(j.first, before)
	return nil
}

func (s *Store) trim(shard uint16, first, before journal.Position) error {
	b := s.db.NewBatch()
	from, to, key := batchKey(shard, first), batchKey(shard, before), trimKey(shard)
	err := b.DeleteRange(from[:], to[:], nil)
	if err == nil {
		err = b.Set(key[:], encodeTrim(key[:], before), nil)
	}
	if err != nil {
		return err
	}
	if err := s.commit(b, pebble.Sync); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	// At once: what Pebble compacts of its own accord falls behind on a busy machine.
	if err := s.db.Compact(s.ctx, from[:], to[:], false); err != nil && s.ctx.Err() == nil {
		return errors.Join(err, s.err())
	}
	return b.Close()
}

func encodeTrim(key []byte, before journal.Position) []byte {
	batch := binary.BigEndian.AppendUint64(nil, uint64(before))
	value := make([]byte, headerSize+len(batch))
	encodeBatch(value, batchFormat, key, batch)
	return value
}

func decodeTrim(key, value []byte) (journal.Position, error) {
	batch, err := decodeBatch(key, value)
	if err != nil {
		return 0, err
	}
	if len(batch) != 8 {
		return 0, errShort
	}
	return journal.Position(binary.BigEndian.Uint64(batch)), nil
}

// Close implements [journal.Journal].
func (j *shardJournal) Close() error {
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		if j.err == nil {
			j.err = journal.ErrClosed
		}
		close(j.end)
	}
	j.mu.Unlock()
	select {
	case <-j.done:
	case <-j.s.ended:
		// What is under way may be for ever.
	case <-time.After(j.s.options.closeWait):
		return j.s.silent()
	}
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	if j.s.journals[j.shard] == j {
		delete(j.s.journals, j.shard)
		j.s.marks[j.shard] = max(j.s.marks[j.shard], j.kept())
	}
	return nil
}

// kept returns the position of the last batch that is kept.
func (j *shardJournal) kept() journal.Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}
