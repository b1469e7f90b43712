package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/replyq/replyq/journal"
)

// ErrNotFollowed says that a shard's log was trimmed beyond what a [Follower] had read: it is of no use any more.
var ErrNotFollowed = errors.New("cluster: the log was trimmed beyond what was followed")

// A Follower reads a shard's log along while another node has the shard, so that a later owner has less to read. One
// goroutine may use it at a time.
type Follower struct {
	store  *Store
	shard  int
	reader *reader // nil until the first Read
	at     uint64  // the last sequence that was read
	places places  // of the batches that were read
}

// Follow returns a follower that has read nothing yet.
func (s *Store) Follow(shard int) *Follower { return &Follower{store: s, shard: shard} }

// Read yields the batches that were kept since the last Read, or since the head, up to those of now. After an error the
// follower is of no use any more. The bytes are valid until the next step.
func (f *Follower) Read(ctx context.Context) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		if err := f.read(ctx, yield); err != nil {
			yield(journal.Record{}, fmt.Errorf("cluster: follow shard %d: %w", f.shard, err))
		}
	}
}

func (f *Follower) read(ctx context.Context, yield func(journal.Record, error) bool) error {
	last, err := f.store.tail(ctx, f.shard)
	if err != nil {
		return err
	}
	if last.sequence <= f.at {
		return nil // nothing, or an old answer
	}
	from := f.at + 1
	if f.reader == nil {
		from = max(last.start, 1)
		head := max(last.from, 1)
		f.reader = &reader{
			shard: f.shard, expected: head, start: last.start, along: true,
			head: func() (journal.Position, uint64) { return head, last.start },
		}
	}
	return f.readTo(ctx, from, last.sequence, yield)
}

// readTo reads the stream from a sequence to another one.
func (f *Follower) readTo(ctx context.Context, from, end uint64, yield func(journal.Record, error) bool) error {
	return f.store.eachMessage(ctx, f.shard, from, func(message []byte, at uint64) (bool, error) {
		if at > end { // what it ended with was trimmed meanwhile
			return false, ErrNotFollowed
		}
		record, ok, err := f.reader.take(message, at)
		if err != nil {
			return false, fmt.Errorf("sequence %d: %w", at, err)
		}
		f.at = at
		if ok {
			f.places.add(record.Position, f.reader.begin)
			if !yield(record, nil) {
				return false, nil
			}
		}
		return at < end, nil
	})
}

// position is that of the next batch; 0 if nothing was read.
func (f *Follower) position() journal.Position {
	if f.reader == nil {
		return 0
	}
	return f.reader.expected
}

// TakeFollowed is Take for who has followed the shard's log: what the follower has not read yet comes first when the journal
// is read from the position behind the last one that it has. If that is not all there any more, the error of Read is
// [ErrNotFollowed].
func (s *Store) TakeFollowed(ctx context.Context, shard int, f *Follower) (journal.Journal, error) {
	return s.take(ctx, shard, f)
}
