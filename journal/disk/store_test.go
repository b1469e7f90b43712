package disk_test

import (
	"testing"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/disk"
)

// open opens a store, and closes it at the end of the test.
func open(t testing.TB, dir string, o disk.Options) *disk.Store {
	t.Helper()
	o.AllowMemory = true // where tests' directories are is not theirs to choose
	s, err := disk.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func journalOf(t testing.TB, s *disk.Store, shard int) journal.Journal {
	t.Helper()
	j, err := s.Journal(shard)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestReopen(t *testing.T) {
	disk.NoLeaks(t)
	dir := t.TempDir()
	s := open(t, dir, disk.Options{Shards: 2})
	number := s.Number()
	for shard, batches := range [][]string{{"a", "b", "c"}, {"d"}} {
		j := journalOf(t, s, shard)
		for i, b := range batches {
			p, err := j.Append(t.Context(), []byte(b))
			if err != nil || p != journal.Position(i+1) {
				t.Fatalf("Append(%s) to shard %d = %d, %v; want %d", b, shard, p, err, i+1)
			}
		}
		if err := j.Trim(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, disk.Options{})
	if s.Number() != number || s.Shards() != 2 {
		t.Errorf("number %d and %d shards, want %d and 2", s.Number(), s.Shards(), number)
	}
	for shard, want := range []string{"bc", ""} {
		j := journalOf(t, s, shard)
		got := ""
		for r, err := range j.Read(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			got += string(r.Batch)
		}
		if got != want {
			t.Errorf("shard %d has %q, want %q", shard, got, want)
		}
	}
	if _, err := s.Journal(1); err == nil {
		t.Error("a journal was opened twice")
	}
}
