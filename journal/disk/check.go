package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replyq/replyq/journal"
)

// A Report is what [Check] found.
type Report struct {
	Number uint32
	Shards []ShardReport
	Damage []Damage // empty when all is well
}

// A ShardReport says what a shard's journal has.
type ShardReport struct {
	Shard       int
	First, Last journal.Position // of the batches that are kept; Last is First-1 when there are none
	Batches     uint64           // that are as they were written
	Bytes       uint64           // in these batches
}

// A Damage is something that is not as it was written, or missing.
type Damage struct {
	Shard    int              // -1: of no shard
	Position journal.Position // where it begins; 0: at no batch
	Err      error            // what it is; wraps [ErrDamaged]
}

// Check reads a store from end to end, verifies every batch, and changes nothing. No server may use it meanwhile. Progress,
// if not nil, is called now and then with the bytes read and those there may be. An error says that nothing could be
// checked; damage is in the report.
func Check(ctx context.Context, dir string, progress func(read, of uint64)) (Report, error) {
	return check(ctx, directory{vfs.Default, dir}, progress)
}

func check(ctx context.Context, d directory, progress func(read, of uint64)) (Report, error) {
	f, err := d.readFormat()
	if err != nil {
		return Report{}, err
	}
	lock, err := d.lock()
	if err != nil {
		return Report{}, err
	}
	s := newStore(d, Options{fs: d.fs}.withDefaults())
	s.format, s.lock = f, lock
	defer s.cancel()
	c := &checker{s: s, report: Report{Number: f.number}, progress: progress}
	if c.of, err = d.size(logName); err == nil {
		err = c.run(ctx)
	}
	return c.report, errors.Join(err, lock.Close())
}

type checker struct {
	s        *Store
	report   Report
	progress func(read, of uint64)
	read, of uint64
}

func (c *checker) run(ctx context.Context) error {
	c.note(-1, 0, c.s.dir.checkKeys())
	m, err := c.s.dir.readMarks(c.s.format.shards)
	c.note(-1, 0, err)
	options := c.s.pebbleOptions()
	options.ReadOnly, options.ErrorIfNotExists = true, true
	if err := c.s.openLog(options); err != nil {
		if errors.Is(err, ErrDamaged) {
			c.note(-1, 0, err)
			return nil
		}
		return err
	}
	for shard := range c.s.format.shards {
		var mark journal.Position
		if m != nil {
			mark = m[shard]
		}
		r, err := c.shard(ctx, uint16(shard), mark)
		if err != nil {
			return errors.Join(err, c.s.db.Close())
		}
		c.report.Shards = append(c.report.Shards, r)
	}
	return c.s.db.Close()
}

func (c *checker) note(shard int, p journal.Position, err error) {
	if err != nil {
		c.report.Damage = append(c.report.Damage, Damage{shard, p, err})
	}
}

// shard reads a shard from its beginning up to its end, or to where nothing more can be read. It has to get to the mark.
func (c *checker) shard(ctx context.Context, shard uint16, mark journal.Position) (ShardReport, error) {
	r := ShardReport{Shard: int(shard)}
	var err error
	if r.First, err = c.s.trimmed(shard); err != nil {
		c.note(r.Shard, 0, err)
		return r, nil
	}
	lower, upper := batchKey(shard, r.First), batchKey(shard, ^journal.Position(0))
	it, err := c.s.db.NewIter(&pebble.IterOptions{LowerBound: lower[:], UpperBound: upper[:]})
	if err != nil {
		c.note(r.Shard, r.First, damaged(err))
		return r, nil
	}
	next := r.First
	for ok := it.First(); ok; ok = it.Next() {
		if ctx.Err() != nil {
			return r, errors.Join(ctx.Err(), it.Close())
		}
		next = c.batch(it, &r, next)
	}
	r.Last = next - 1
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		c.note(r.Shard, next, fmt.Errorf("from batch %d of shard %d on: %w", next, shard, damaged(err)))
	} else if r.Last < mark {
		c.note(r.Shard, next, missing(shard, next, mark))
	}
	return r, nil
}

// batch looks at the batch that it stands on, and returns the position that comes next.
func (c *checker) batch(it *pebble.Iterator, r *ShardReport, next journal.Position) journal.Position {
	_, p, ok := parseBatchKey(it.Key())
	if ok && p > next {
		c.note(r.Shard, next, missing(uint16(r.Shard), next, p-1))
		next = p
	}
	batch, err := readBatch(it, uint16(r.Shard), next)
	if err != nil {
		c.note(r.Shard, next, err)
		return next + 1
	}
	r.Batches++
	r.Bytes += uint64(len(batch))
	before := c.read >> 24
	if c.read += uint64(len(batch)); c.progress != nil && c.read>>24 != before {
		c.progress(c.read, max(c.read, c.of))
	}
	return next + 1
}
