package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replyq/replyq/journal"
)

// bounds returns the positions of the first and the last batch of a shard; last is first-1 when there is none.
func (s *Store) bounds(shard uint16) (first, last journal.Position, err error) {
	first, err = s.trimmed(shard)
	if err != nil {
		return 0, 0, err
	}
	last = first - 1
	lower, upper := batchKey(shard, 0), batchKey(shard, ^journal.Position(0))
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower[:], UpperBound: upper[:]})
	if err != nil {
		return 0, 0, damaged(err)
	}
	if it.Last() {
		if _, p, ok := parseBatchKey(it.Key()); ok && p > last {
			last = p
		}
	}
	if err = errors.Join(it.Error(), it.Close()); err != nil {
		err = fmt.Errorf("the last batch of shard %d: %w", shard, damaged(err))
	}
	return first, last, err
}

// trimmed returns the position of the first batch that was not trimmed.
func (s *Store) trimmed(shard uint16) (journal.Position, error) {
	key := trimKey(shard)
	value, closer, err := s.db.Get(key[:])
	if errors.Is(err, pebble.ErrNotFound) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("where shard %d begins: %w", shard, damaged(err))
	}
	first, err := decodeTrim(key[:], value)
	if err != nil {
		err = fmt.Errorf("where shard %d begins: %w", shard, damage(err))
	}
	return first, errors.Join(err, closer.Close())
}

// read yields the batches of a shard from one position up to another. All of them have to be there.
func (s *Store) read(ctx context.Context, shard uint16, from, last journal.Position, yield func(journal.Record, error) bool) error {
	if from > last {
		return nil
	}
	lower, upper := batchKey(shard, from), batchKey(shard, last+1)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower[:], UpperBound: upper[:]})
	if err != nil {
		return damaged(err)
	}
	next, stopped := from, false
	for ok := it.First(); ok && err == nil && !stopped; ok = it.Next() {
		if err = errors.Join(ctx.Err(), s.stopped()); err != nil {
			break
		}
		var batch []byte
		if batch, err = readBatch(it, shard, next); err == nil {
			stopped = !yield(journal.Record{Position: next, Batch: batch}, nil)
			next++
		}
	}
	if err = errors.Join(err, damaged(it.Error()), it.Close()); err != nil || stopped {
		return err
	}
	if next <= last {
		return missing(shard, next, last)
	}
	return nil
}

func readBatch(it *pebble.Iterator, shard uint16, want journal.Position) ([]byte, error) {
	_, p, ok := parseBatchKey(it.Key())
	if !ok {
		return nil, damage(fmt.Errorf("a key of %d bytes is none of a batch", len(it.Key())))
	}
	if p != want {
		return nil, missing(shard, want, p-1)
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, damaged(err)
	}
	batch, err := decodeBatch(it.Key(), value)
	if err != nil {
		return nil, damage(fmt.Errorf("batch %d of shard %d: %w", p, shard, err))
	}
	return batch, nil
}

func missing(shard uint16, from, to journal.Position) error {
	return damage(fmt.Errorf("batches %d to %d of shard %d are missing", from, to, shard))
}
