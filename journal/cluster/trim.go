package cluster

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/journal"
)

// Trim implements [journal.Journal]. What is trimmed is first said in the shard's own log, and then taken off the stream's
// head, as far as no other shard needs it.
func (l *log) Trim(ctx context.Context, before journal.Position) error {
	l.mu.Lock()
	nothing := before <= l.from || l.from == l.next
	l.mu.Unlock()
	if nothing {
		if err := context.Cause(l.ctx); err != nil {
			return l.ended(err)
		}
		return nil
	}
	_, err := l.write(ctx, trimKind, nil, func() {
		l.from = max(l.from, min(before, l.next))
		if l.from == l.next {
			l.start = l.sequence
		} else if s := l.places.before(l.from); s > l.start {
			l.start = s
		}
	})
	if err == nil {
		l.store.trimmer.wake()
	}
	return err
}

// Lagging says whether the stream keeps more than 64 MiB only because of this shard. Appending and trimming moves it on.
func (l *log) Lagging() bool { return int(l.store.trimmer.lagging.Load()) == l.shard+1 }

// needs is the sequence from which on the shard needs the stream.
func (l *log) needs() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(min(l.needed, l.sequence), 1) // 0: never trimmed
}

// A trimmer takes off the stream's head what no shard needs.
type trimmer struct {
	store   *Store
	wakes   chan struct{}
	done    sync.WaitGroup
	bytes   atomic.Int64 // appended since it last looked
	lagging atomic.Int32 // the shard that holds the head back, and 1; 0: none does
	purged  uint64
}

func (t *trimmer) start(s *Store) {
	t.store, t.wakes = s, make(chan struct{}, 1)
	t.done.Go(t.run)
}

func (t *trimmer) wait() { t.done.Wait() }

func (t *trimmer) wake() {
	select {
	case t.wakes <- struct{}{}:
	default:
	}
}

// appended makes it look from time to time, even if nobody trims.
func (t *trimmer) appended(bytes int) {
	if t.bytes.Add(int64(bytes)) > lagLimit/4 {
		t.wake()
	}
}

func (t *trimmer) run() {
	for {
		select {
		case <-t.wakes:
		case <-t.store.ctx.Done():
			return
		}
		t.bytes.Store(0)
		if err := t.trim(t.store.ctx); err != nil && t.store.ctx.Err() == nil {
			t.store.options.Log.Warn("the stream could not be trimmed", "error", err)
		}
	}
}

func (t *trimmer) trim(ctx context.Context) error {
	shard, least, second, err := t.needs(ctx)
	if err != nil || least == 0 {
		return err
	}
	if least > t.purged && least > 1 {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		if err := t.store.stream.Purge(ctx, jetstream.WithPurgeSequence(least)); err != nil {
			return err //nolint:wrapcheck // only logged
		}
		t.purged = least
	}
	info, err := t.store.info(ctx)
	if err != nil {
		return err //nolint:wrapcheck // only logged
	}
	t.lagging.Store(0)
	if behind(info.State, second) > lagLimit {
		t.lagging.Store(int32(shard) + 1) //nolint:gosec // few shards
	}
	return nil
}

// needs returns the shard that needs most of the stream, from where on it does, and from where on the others do.
func (t *trimmer) needs(ctx context.Context) (shard int, least, second uint64, err error) {
	for i := range t.store.options.Shards {
		from, err := t.store.needs(ctx, i)
		switch {
		case err != nil:
			return 0, 0, 0, err
		case from == 0: // nothing in the log
		case least == 0 || from < least:
			shard, least, second = i, from, least
		case second == 0 || from < second:
			second = from
		}
	}
	return shard, least, second, nil
}

// needs returns from where on a shard needs the stream: 0 if it has nothing there.
func (s *Store) needs(ctx context.Context, shard int) (uint64, error) {
	s.mu.Lock()
	l := s.journals[shard]
	s.mu.Unlock()
	if l != nil && l.ctx.Err() == nil {
		return l.needs(), nil
	}
	last, err := s.tail(ctx, shard)
	if err != nil || last.sequence == 0 {
		return 0, err
	}
	return max(min(last.start, last.sequence), 1), nil
}

// behind estimates how many bytes the stream has before a sequence: messages are taken to be equally large.
func behind(state jetstream.StreamState, sequence uint64) uint64 {
	if sequence <= state.FirstSeq || state.LastSeq < state.FirstSeq {
		return 0
	}
	return uint64(float64(state.Bytes) * float64(sequence-state.FirstSeq) / float64(state.LastSeq-state.FirstSeq+1))
}
