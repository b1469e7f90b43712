package disk

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replyq/replyq/journal"
)

// Failed returns a channel that gets an error when the disk failed. Nothing is kept any more then, and the process has to
// end: the next start tells what was.
func (s *Store) Failed() <-chan error { return s.failed }

// fail ends the store. The first error is the one that counts.
func (s *Store) fail(err error) {
	err = fmt.Errorf("%s: the disk failed: %w", s.dir.path, err)
	if s.failure.CompareAndSwap(nil, &err) {
		s.failed <- err
		close(s.ended)
	}
}

// err is the reason why the store is no more, if so.
func (s *Store) err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// backgroundError takes errors of what Pebble does on its own. It would repeat at once what has just failed.
func (s *Store) backgroundError(err error) {
	s.fail(err)
	if s.gate.live.Load() {
		_ = s.gate.hold()
	}
	<-time.After(50 * time.Millisecond)
}

// enter is called before Pebble is used, and leave after it: it must not be closed meanwhile.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return journal.ErrClosed
	}
	s.users.Add(1)
	return nil
}

func (s *Store) leave() { s.users.Done() }

// stopped says whether who uses Pebble for long has to leave.
func (s *Store) stopped() error {
	if s.ctx.Err() != nil {
		return journal.ErrClosed
	}
	return nil
}

// commit writes to the store and returns when it is kept. It may block for as long as the disk does, and for ever when the
// disk has failed: who cannot wait also looks at ended.
func (s *Store) commit(b *pebble.Batch, sync *pebble.WriteOptions) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.err(); err != nil {
		return err
	}
	if err := s.db.Apply(b, sync); err != nil {
		s.fail(err)
	}
	return s.err()
}

// await does something that blocks, and leaves it when the context or the store ends first.
func (s *Store) await(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		return s.err()
	}
}

// syncEvery is the goroutine that makes batches durable that did not wait for it.
func (s *Store) syncEvery() {
	tick := time.NewTicker(s.options.FsyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.gate.due.Store(true)
			b := s.db.NewBatch()
			if err := b.LogData(nil, nil); err != nil || s.commit(b, pebble.Sync) != nil {
				return
			}
		case <-s.ended:
			return
		case <-s.ctx.Done():
			return
		}
	}
}
