package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/disk"
)

var testTime = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant that Go cannot write as one

func appendN(t testing.TB, j journal.Journal, n int) {
	t.Helper()
	for i := range n {
		if _, err := j.Append(t.Context(), fmt.Appendf(nil, "batch %d", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackup copies a store that is written to all the while.
func TestBackup(t *testing.T) {
	disk.NoLeaks(t)
	s := open(t, t.TempDir(), disk.Options{Shards: 2})
	j := journalOf(t, s, 0)
	appendN(t, j, 50)
	if err := j.Trim(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	other := journalOf(t, s, 1)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				appendN(t, other, 1)
			}
		}
	}()
	to := filepath.Join(t.TempDir(), "a", "backup")
	if err := s.Backup(to); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(to); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("Backup on top of another: %v, want that it is not empty", err)
	}
	appendN(t, j, 1)
	close(stop)
	<-done

	report, err := disk.Check(t.Context(), to, nil)
	if err != nil || len(report.Damage) > 0 {
		t.Fatalf("Check of the backup: %v, %v", report.Damage, err)
	}
	b := open(t, to, disk.Options{})
	if b.Number() != s.Number() || b.Shards() != 2 {
		t.Errorf("the backup has number %d and %d shards, want %d and 2", b.Number(), b.Shards(), s.Number())
	}
	keys, err1 := os.ReadFile(s.Keys())
	copied, err2 := os.ReadFile(b.Keys())
	if string(keys) != string(copied) || err1 != nil || err2 != nil {
		t.Errorf("the backup has other keys (%v, %v)", err1, err2)
	}
	var got []journal.Position
	for r, err := range journalOf(t, b, 0).Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Position)
	}
	if len(got) != 40 || got[0] != 11 || got[39] != 50 {
		t.Errorf("the backup has %v, want 11 to 50", got)
	}
}

func TestCheck(t *testing.T) {
	disk.NoLeaks(t)
	dir := t.TempDir()
	s := open(t, dir, disk.Options{Shards: 2})
	j := journalOf(t, s, 0)
	appendN(t, j, 100)
	if err := j.Trim(t.Context(), 31); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := disk.Check(t.Context(), dir, func(uint64, uint64) {})
	if err != nil || len(report.Damage) > 0 || report.Number != s.Number() || len(report.Shards) != 2 {
		t.Fatalf("Check = %+v, %v", report, err)
	}
	if r := report.Shards[0]; r.First != 31 || r.Last != 100 || r.Batches != 70 || r.Bytes != 70*8 {
		t.Errorf("shard 0: %+v, want 31 to 100, 70 batches of 560 bytes", r)
	}
	if r := report.Shards[1]; r.First != 1 || r.Last != 0 || r.Batches != 0 {
		t.Errorf("shard 1: %+v, want none", r)
	}

	tables, err := filepath.Glob(filepath.Join(dir, "log", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables: %v, %v", tables, err)
	}
	for _, table := range tables {
		edit(t, table, func(s string) string {
			at := strings.Index(s, "batch 9")
			if at < 0 {
				return s
			}
			return s[:at] + "BATCH" + s[at+5:]
		})
	}
	report, err = disk.Check(t.Context(), dir, nil)
	if err != nil || len(report.Damage) == 0 {
		t.Fatalf("Check of a damaged table = %+v, %v", report, err)
	}
	if d := report.Damage[0]; d.Shard != 0 || !errors.Is(d.Err, disk.ErrDamaged) || !strings.Contains(d.Err.Error(), "shard 0") {
		t.Errorf("damage %+v, want shard 0", d)
	}
	if _, err := disk.Check(t.Context(), filepath.Join(dir, "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Check of nothing: %v, want ErrNotExist", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("Check made the directory")
	}
}

func TestStatsAndSpace(t *testing.T) {
	s := open(t, t.TempDir(), disk.Options{})
	before := s.Stats()
	appendN(t, journalOf(t, s, 0), 10)
	st := s.Stats()
	if st.Batches != 10 || st.Bytes != 70 || st.Written < st.Bytes || st.Fsyncs < 10 {
		t.Errorf("Stats = %+v, want 10 batches of 70 bytes, each fsynced", st)
	}
	if n := st.Latency.Since(before.Latency).Count(); n != 10 {
		t.Errorf("%d latencies, want 10", n)
	}
	if p50, most := st.Latency.Quantile(0.5), st.Latency.Quantile(1); p50 == 0 || most < p50 {
		t.Errorf("p50 %d, most %d", p50, most)
	}
	if got := st.Size.Quantile(0.5); got != 7 {
		t.Errorf("half of the batches have at most %d bytes, want 7", got)
	}
	space, err := s.Space()
	if err != nil || space.Free == 0 || space.Total < space.Free || space.Store == 0 {
		t.Errorf("Space = %+v, %v", space, err)
	}
}
