package disk

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A fault makes operations on some files fail, or block, once it is on.
type fault struct {
	on    atomic.Bool
	kinds []errorfs.OpKind // any that changes something, if none
	file  string           // part of the name
	err   error            // nil: blocks
	gate  chan struct{}    // until this is closed
}

// MaybeError implements [errorfs.Injector].
func (f *fault) MaybeError(op errorfs.Op) error {
	if !f.on.Load() || !strings.Contains(op.Path, f.file) || !f.hits(op.Kind) {
		return nil
	}
	if f.err == nil {
		<-f.gate
	}
	return f.err
}

func (f *fault) hits(kind errorfs.OpKind) bool {
	if len(f.kinds) == 0 {
		return kind.ReadOrWrite() == errorfs.OpIsWrite
	}
	for _, k := range f.kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// String implements [errorfs.Injector].
func (f *fault) String() string { return "fault" }

// in is a file system with the fault.
func (f *fault) in(fs vfs.FS) vfs.FS { return faultFS{errorfs.Wrap(fs, f)} }

type faultFS struct{ vfs.FS }

// ReuseForWrite implements [vfs.FS]. That of errorfs gives away a file without faults.
func (fs faultFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return fs.Create(newname, category)
}

var faults = []struct { //nolint:gochecknoglobals // a table
	name  string
	kinds []errorfs.OpKind
	file  string
	err   error
}{
	{"no space for the log", []errorfs.OpKind{errorfs.OpFileWrite}, ".log", syscall.ENOSPC},
	{"no space for the next log", []errorfs.OpKind{errorfs.OpCreate, errorfs.OpRename}, ".log", syscall.ENOSPC},
	{"the log cannot be synced", []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData}, ".log", syscall.EIO},
	{"no space for a table", []errorfs.OpKind{errorfs.OpFileWrite}, ".sst", syscall.ENOSPC},
	{"a table cannot be synced", []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData}, ".sst", syscall.EIO},
	{"a table cannot be read", []errorfs.OpKind{errorfs.OpFileReadAt}, ".sst", syscall.EIO},
	{"no space for the manifest", []errorfs.OpKind{errorfs.OpFileWrite}, "MANIFEST", syscall.ENOSPC},
	{"the manifest cannot be synced", []errorfs.OpKind{errorfs.OpFileSync}, "MANIFEST", syscall.EIO},
	{"no space for the marks", []errorfs.OpKind{errorfs.OpFileWrite}, marksName, syscall.ENOSPC},
	{"no space at all", []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpCreate}, "", syscall.ENOSPC},
	{"everything fails", nil, "", syscall.EIO},
	{"read-only", nil, "", syscall.EROFS},
}

// TestFaults lets the disk fail under load. No append is confirmed any more that is not there afterwards, the failure is
// known, calls return, and the store can be closed and opened again.
func TestFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			f := &fault{kinds: c.kinds, file: c.file, err: c.err}
			failUnderLoad(t, f)
		})
	}
}

func failUnderLoad(t *testing.T, f *fault) {
	const shards = 2
	rng := newRand(t)
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, small(f.in(mem), shards))
	models, wg := startWork(t, s, shards, rng, func(done int) {
		if done == 200 {
			f.on.Store(true)
		}
	})
	select {
	case err := <-s.Failed():
		if !errors.Is(err, f.err) || !strings.Contains(err.Error(), "store") {
			t.Errorf("Failed says %q, want one that names the directory and wraps %v", err, f.err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Failed says nothing")
	}
	wg.Wait() // every append returns

	cut := mem.CrashClone(vfs.CrashCloneCfg{})
	began := time.Now()
	if err := s.Close(); err == nil {
		t.Error("Close says nothing of the failure")
	}
	t.Logf("closed after %v", time.Since(began))

	s = mustOpen(t, small(cut, shards))
	for shard, m := range models {
		recovered(t, s, shard, m)
	}
	closeStore(t, s)
}

// startWork has all shards append and trim until that fails; step is told of each that was done.
func startWork(t testing.TB, s *Store, shards int, rng *rand.Rand, step func(done int)) ([]*shardModel, *sync.WaitGroup) {
	t.Helper()
	models := make([]*shardModel, shards)
	var wg sync.WaitGroup
	var done atomic.Int64
	for shard := range models {
		m := &shardModel{}
		models[shard] = m
		j := mustJournal(t, s, shard)
		own := rand.New(rand.NewPCG(rng.Uint64(), 3))
		wg.Go(func() { m.work(t, j, shard, own, func() { step(int(done.Add(1))) }) })
	}
	return models, &wg
}

// TestStall has the disk hang. Append can be left, closing does not hang, and when the disk goes on so does the store.
func TestStall(t *testing.T) {
	sync := []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData}
	t.Run("goes on", func(t *testing.T) {
		noLeaks(t)
		f := &fault{kinds: sync, file: ".log", gate: make(chan struct{})}
		s := mustOpen(t, small(f.in(vfs.NewCrashableMem()), 1))
		j := mustJournal(t, s, 0)
		f.on.Store(true)
		appended := make(chan error, 1)
		go func() {
			_, err := j.Append(t.Context(), content(0, 1))
			appended <- err
		}()
		select {
		case err := <-appended:
			t.Fatalf("Append did not wait for the disk: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(f.gate)
		if err := <-appended; err != nil {
			t.Errorf("Append after the disk went on: %v", err)
		}
		closeStore(t, s)
	})
	t.Run("is left", func(t *testing.T) {
		f := &fault{kinds: sync, file: ".log", gate: make(chan struct{})}
		o := small(f.in(vfs.NewCrashableMem()), 1)
		o.closeWait = 50 * time.Millisecond
		s := mustOpen(t, o)
		j := mustJournal(t, s, 0)
		f.on.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := j.Append(ctx, content(0, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Append: %v, want the context's error", err)
		}
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "did not answer") {
			t.Errorf("Close: %v, want that the disk did not answer", err)
		}
		close(f.gate)
	})
}

func TestOpenFaults(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
		f := &fault{err: err}
		f.on.Store(true)
		if _, got := Open("store", small(f.in(vfs.NewCrashableMem()), 1)); !errors.Is(got, err) {
			t.Errorf("Open of a new store: %v, want %v", got, err)
		}
		f.on.Store(false)
		fs := f.in(vfs.NewCrashableMem())
		closeStore(t, mustOpen(t, small(fs, 1)))
		f.on.Store(true)
		if _, got := Open("store", small(fs, 1)); !errors.Is(got, err) {
			t.Errorf("Open of an old store: %v, want %v", got, err)
		}
	}
}
