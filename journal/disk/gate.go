package disk

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A gate is the file system as Pebble sees it. When something cannot be written it ends the store, and does not come back:
// Pebble can go on from a failed write neither by an error (it would confirm commits, or end the process in the middle of
// changing logs) nor by trying again (what a failed fsync has dropped is not in the next one). Whoever is held is left
// behind; the process ends.
type gate struct {
	vfs.FS
	s    *Store
	path string // of what is Pebble's; a backup's files are none of the gate's business

	// lazy lets fsyncs of logs wait until one is due. Pebble waits for the write all the same, so what it confirms the
	// system has, and the end of the process loses nothing.
	lazy bool
	due  atomic.Bool

	live           atomic.Bool // set when the store is open: before, errors go to who opens it
	written, syncs atomic.Uint64
}

// check passes on how an operation on a file ended, or does not return.
func (g *gate) check(operation, file string, err error) error {
	if err == nil || !g.live.Load() || !strings.HasPrefix(file, g.path) {
		return err
	}
	g.s.fail(fmt.Errorf("%s %s: %w", operation, file, err))
	return g.hold()
}

// hold does not return.
func (g *gate) hold() error {
	select {}
}

// Create implements [vfs.FS].
func (g *gate) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	return g.file(f, name, g.check("create", name, err))
}

// ReuseForWrite implements [vfs.FS].
func (g *gate) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	return g.file(f, newname, g.check("reuse", newname, err))
}

// OpenReadWrite implements [vfs.FS].
func (g *gate) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, category, options...)
	return g.file(f, name, g.check("open", name, err))
}

// OpenDir implements [vfs.FS]. Directories are opened to be synced.
func (g *gate) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.file(f, name, g.check("open", name, err))
}

// Rename implements [vfs.FS].
func (g *gate) Rename(oldname, newname string) error {
	return g.check("rename to", newname, g.FS.Rename(oldname, newname))
}

// Unwrap implements [vfs.FS].
func (g *gate) Unwrap() vfs.FS { return g.FS }

func (g *gate) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &gateFile{File: f, g: g, name: name, lazy: g.lazy && strings.HasSuffix(name, ".log")}, nil
}

// A gateFile is a file that is written, or a directory.
type gateFile struct {
	vfs.File
	g    *gate
	name string
	lazy bool // it is a log, and the store is lazy
}

// mayWait reports whether a log need not be fsynced now.
func (f *gateFile) mayWait() bool { return f.lazy && !f.g.due.Swap(false) }

// Write implements [vfs.File].
func (f *gateFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.g.written.Add(uint64(n))
	return n, f.g.check("write", f.name, err)
}

// WriteAt implements [vfs.File].
func (f *gateFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	f.g.written.Add(uint64(n))
	return n, f.g.check("write", f.name, err)
}

// Preallocate implements [vfs.File]. That there is no room is not said before it is needed. A log gets its size with its
// room: an fsync of a file that does not grow takes two thirds of the time. Recovery takes zeros for a log's end.
func (f *gateFile) Preallocate(at, length int64) error {
	if fd := f.Fd(); fd != vfs.InvalidFd && strings.HasSuffix(f.name, ".log") {
		_ = extend(fd, at, length)
		return nil
	}
	_ = f.File.Preallocate(at, length)
	return nil
}

// Sync implements [vfs.File].
func (f *gateFile) Sync() error {
	if f.mayWait() {
		return nil
	}
	return f.synced(f.File.Sync())
}

// SyncData implements [vfs.File].
func (f *gateFile) SyncData() error {
	if f.mayWait() {
		return nil
	}
	return f.synced(f.File.SyncData())
}

// synced looks twice at how an fsync ended.
func (f *gateFile) synced(err error) error {
	f.g.syncs.Add(1)
	if fd := f.Fd(); err == nil && fd != vfs.InvalidFd {
		err = turnedReadOnly(fd)
	}
	return f.g.check("sync", f.name, err)
}

// SyncTo implements [vfs.File].
func (f *gateFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.g.check("sync", f.name, err)
}

// Close implements [vfs.File]. A log is fsynced before the next one is: so what is lost is the end of what there was.
func (f *gateFile) Close() error {
	if f.lazy {
		if err := f.synced(f.File.Sync()); err != nil {
			return errors.Join(err, f.File.Close())
		}
	}
	return f.g.check("close", f.name, f.File.Close())
}
