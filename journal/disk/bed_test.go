package disk

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replyq/replyq/journal"
)

// small are options for a store in memory that writes its logs out often.
func small(fs vfs.FS, shards int) Options {
	return Options{Shards: shards, fs: fs, memTable: 64 << 10, closeWait: 5 * time.Second}
}

// content is the batch of a shard at a position: nobody else's.
func content(shard int, p journal.Position) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d/%d ", shard, p), int(p*p)%307)
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustJournal(t testing.TB, s *Store, shard int) journal.Journal {
	t.Helper()
	j, err := s.Journal(shard)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// readAll reads a shard and compares each batch with what it must be. It returns the positions of the first and the last.
func readAll(t testing.TB, s *Store, shard int) (first, last journal.Position, err error) {
	t.Helper()
	j, err := s.Journal(shard)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	for r, err := range j.Read(t.Context(), 0) {
		if err != nil {
			return first, last, err
		}
		if !bytes.Equal(r.Batch, content(shard, r.Position)) {
			t.Errorf("shard %d, batch %d is not what was appended", shard, r.Position)
		}
		if last != 0 && r.Position != last+1 {
			t.Errorf("shard %d: batch %d after %d", shard, r.Position, last)
		}
		if first == 0 {
			first = r.Position
		}
		last = r.Position
	}
	return first, last, nil
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
