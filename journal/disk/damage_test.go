package disk

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replyq/replyq/journal"
)

var damageFlag = flag.Int("disk.damages", 60, "how many bits the damage test flips in each store")

// A specimen is a store at rest, and what was confirmed in it.
type specimen struct {
	fs    *vfs.MemFS
	clean bool
	last  []journal.Position
}

// newSpecimen makes a store with tables, a manifest with several edits, and, if it was not closed, logs.
func newSpecimen(t testing.TB, clean bool) specimen {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, small(fs, 2))
	sp := specimen{clean: clean, last: make([]journal.Position, 2)}
	for shard := range 2 {
		j := mustJournal(t, s, shard)
		for p := journal.Position(1); p <= 150; p++ {
			if _, err := j.Append(t.Context(), content(shard, p)); err != nil {
				t.Fatal(err)
			}
			sp.last[shard] = p
		}
		if err := j.Trim(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		closeStore(t, s)
		sp.fs = fs.CrashClone(vfs.CrashCloneCfg{})
	} else {
		sp.fs = fs.CrashClone(vfs.CrashCloneCfg{})
		closeStore(t, s)
	}
	return sp
}

// files lists the files of a store with their contents.
func (sp specimen) files(t testing.TB) map[string][]byte {
	t.Helper()
	d := directory{sp.fs, "store"}
	out := make(map[string][]byte)
	var walk func(name string)
	walk = func(name string) {
		info, err := sp.fs.Stat(d.file(name))
		if err != nil {
			t.Fatal(err)
		}
		if !info.IsDir() {
			if out[name], err = d.read(name); err != nil {
				t.Fatal(err)
			}
			return
		}
		names, err := sp.fs.List(d.file(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			walk(sp.fs.PathJoin(name, n))
		}
	}
	walk("")
	return out
}

// with returns a copy of the store in which one file is something else.
func (sp specimen) with(t testing.TB, name string, data []byte) vfs.FS {
	t.Helper()
	fs := sp.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	f, err := fs.Create(fs.PathJoin("store", name), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// A fate is what became of a damaged store.
type fate int

const (
	refused  fate = iota // it was said what is wrong
	harmless             // everything confirmed was there
	tail                 // only the last batch of a shard is gone, which may not have been confirmed
	silent               // more is gone, and nobody said so
)

// judge opens a store and reads it all. Each batch that comes has to be right; that is checked in readAll.
func (sp specimen) judge(t testing.TB, fs vfs.FS) (fate, error) {
	t.Helper()
	s, err := Open("store", small(fs, 0))
	if err != nil {
		return refused, err
	}
	defer s.Close() //nolint:errcheck // it may have failed because of the damage
	worst := harmless
	for shard, want := range sp.last {
		_, last, err := readAll(t, s, shard)
		switch {
		case err != nil:
			return refused, err
		case last == want:
		case last == want-1:
			worst = max(worst, tail)
		default:
			t.Logf("shard %d ends at %d, want %d", shard, last, want)
			worst = silent
		}
	}
	return worst, nil
}

// expect checks a fate: damage is named, and nothing is gone silently but what was last in a log that a crash has left:
// damage there looks like a crash before it was written. Behind is what the file has behind the damage, and zeros before.
func (sp specimen) expect(t testing.TB, what, name string, fs vfs.FS, behind []byte) fate {
	t.Helper()
	got, err := sp.judge(t, fs)
	last := !sp.clean && strings.HasSuffix(name, ".log") && !traced(name, behind)
	switch {
	case got == silent && !last, got == tail && (sp.clean || !strings.HasSuffix(name, ".log")):
		t.Errorf("%s of %s: batches are gone, and nobody said so", what, name)
	case got == refused && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer):
		t.Errorf("%s of %s: %v: want ErrDamaged", what, name, err)
	case got == refused && !strings.Contains(err.Error(), "store") && !strings.Contains(err.Error(), "batch"):
		t.Errorf("%s of %s: %q names no file and no batch", what, name, err)
	case got == refused && !strings.Contains(err.Error(), "backup") && !strings.Contains(err.Error(), "use the newer") && !strings.Contains(err.Error(), "remove"):
		t.Errorf("%s of %s: %q knows no way out", what, name, err)
	}
	return got
}

// traced says whether a log has a whole beginning of a batch.
func traced(name string, log []byte) bool {
	number, err := strconv.ParseUint(strings.TrimSuffix(path.Base(name), ".log"), 10, 32)
	m := make(marks, 2)
	traceLog(log, uint32(number), m)
	return err == nil && m[0]+m[1] > 0
}

// from returns a copy with zeros up to a place.
func from(data []byte, at int) []byte {
	rest := bytes.Clone(data)
	clear(rest[:at])
	return rest
}

func specimens(t *testing.T, run func(t *testing.T, sp specimen)) {
	for name, clean := range map[string]bool{"closed": true, "crashed": false} {
		t.Run(name, func(t *testing.T) {
			sp := newSpecimen(t, clean)
			if got, err := sp.judge(t, sp.with(t, "lock", nil)); got != harmless {
				t.Fatalf("the store without damage: %v, %v", got, err)
			}
			run(t, sp)
		})
	}
}

// TestBitFlips flips one bit in each kind of file.
func TestBitFlips(t *testing.T) {
	specimens(t, func(t *testing.T, sp specimen) {
		rng := newRand(t)
		files := sp.files(t)
		fates := make(map[fate]int)
		for name, data := range files {
			if len(data) == 0 {
				continue
			}
			for range max(*damageFlag/len(files), 4) {
				flipped := append([]byte(nil), data...)
				bit := rng.IntN(8 * len(data))
				flipped[bit/8] ^= 1 << (bit % 8)
				fates[sp.expect(t, "a flipped bit", name, sp.with(t, name, flipped), from(data, bit/8+1))]++
			}
		}
		t.Logf("%d files; %d flips refused, %d harmless, %d of the last batch", len(files), fates[refused], fates[harmless], fates[tail])
		if fates[refused] == 0 {
			t.Error("no flip was noticed")
		}
	})
}

// TestZeroedPage overwrites a page of each file with zeros.
func TestZeroedPage(t *testing.T) {
	specimens(t, func(t *testing.T, sp specimen) {
		rng := newRand(t)
		for name, data := range sp.files(t) {
			if len(data) == 0 {
				continue
			}
			for range 4 {
				zeroed := append([]byte(nil), data...)
				at := rng.IntN(len(data)) &^ 4095
				clear(zeroed[at:min(at+4096, len(data))])
				sp.expect(t, "a zeroed page", name, sp.with(t, name, zeroed), from(data, min(at+4096, len(data))))
			}
		}
	})
}

// TestTruncation cuts each file. A log that a crash has left ends anywhere, and nobody can know what was behind.
func TestTruncation(t *testing.T) {
	specimens(t, func(t *testing.T, sp specimen) {
		rng := newRand(t)
		for name, data := range sp.files(t) {
			if len(data) == 0 || strings.HasSuffix(name, ".log") && !sp.clean {
				continue
			}
			for range 4 {
				sp.expect(t, "a cut", name, sp.with(t, name, data[:rng.IntN(len(data))]), nil)
			}
		}
	})
}

// TestMissing removes each file.
func TestMissing(t *testing.T) {
	specimens(t, func(t *testing.T, sp specimen) {
		for name := range sp.files(t) {
			if strings.HasSuffix(name, "LOCK") || name == lockName || strings.HasSuffix(name, ".log") && !sp.clean {
				continue
			}
			fs := sp.with(t, "lock", nil)
			if err := fs.Remove(fs.PathJoin("store", name)); err != nil {
				t.Fatal(err)
			}
			sp.expect(t, "the loss", name, fs, nil)
		}
	})
}

// TestGap takes batches away without anything else being wrong: only their positions tell.
func TestGap(t *testing.T) {
	for _, gone := range []journal.Position{1, 5, 10} {
		s := mustOpen(t, small(vfs.NewMem(), 1))
		j := mustJournal(t, s, 0)
		for p := journal.Position(1); p <= 10; p++ {
			if _, err := j.Append(t.Context(), content(0, p)); err != nil {
				t.Fatal(err)
			}
		}
		key := batchKey(0, gone)
		if err := s.db.Delete(key[:], nil); err != nil {
			t.Fatal(err)
		}
		n, failed := 0, error(nil)
		for _, err := range j.Read(t.Context(), 0) {
			n++
			failed = err
		}
		if n != int(gone) || !errors.Is(failed, ErrDamaged) || !strings.Contains(failed.Error(), fmt.Sprintf("batches %d to %d of shard 0", gone, gone)) {
			t.Errorf("without batch %d: %d steps, %v", gone, n, failed)
		}
		closeStore(t, s)
	}
}
