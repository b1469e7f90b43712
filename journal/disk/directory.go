package disk

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names of what is in a store's directory.
const (
	formatName = "format"
	keysName   = "handle-keys"
	logName    = "log"
	lockName   = "lock"
	marksName  = "marks"
	movedName  = "moved"
	partSuffix = ".part" // of a file that is being written
)

// formatVersion is the layout that this version of the package writes.
const formatVersion = 1

// A format says what a store is. It is made with the store and never changes.
type format struct {
	number uint32
	shards int
}

func (f format) encode() []byte {
	return seal(fmt.Sprintf("replyq-store %d\nnumber %d\nshards %d\n", formatVersion, f.number, f.shards))
}

func parseFormat(file []byte) (format, error) {
	var version int
	if _, err := fmt.Sscanf(string(file), "replyq-store %d\n", &version); err != nil {
		return format{}, errors.New("it does not begin like one")
	}
	if version > formatVersion {
		return format{}, fmt.Errorf("%w: the store has layout %d, this version reads up to %d: use the newer version that wrote it", ErrNewer, version, formatVersion)
	}
	text, err := unseal(file)
	if err != nil {
		return format{}, err
	}
	var f format
	if _, err := fmt.Sscanf(text, "replyq-store %d\nnumber %d\nshards %d\n", &version, &f.number, &f.shards); err != nil {
		return format{}, errors.New("it is incomplete")
	}
	return f, nil
}

// seal adds a line with a checksum to a text.
func seal(text string) []byte {
	return fmt.Appendf([]byte(text), "crc32c %08x\n", crc32.Checksum([]byte(text), castagnoli))
}

func unseal(file []byte) (string, error) {
	at := bytes.LastIndex(file, []byte("crc32c "))
	if at < 0 {
		return "", errors.New("its checksum is missing")
	}
	text := string(file[:at])
	if !bytes.Equal(file, seal(text)) {
		return "", errChecksum
	}
	return text, nil
}

func newNumber() uint32 {
	var b [4]byte
	for {
		_, _ = rand.Read(b[:]) // never fails: it ends the process instead
		if n := binary.BigEndian.Uint32(b[:]); n != 0 {
			return n
		}
	}
}

// A directory is where a store lives.
type directory struct {
	fs   vfs.FS
	path string
}

// make makes the directory, for its owner only, with those above it, and makes that survive a power cut.
func (d directory) make() error {
	var above []string // of directories that are made
	for dir := d.path; ; dir = d.fs.PathDir(dir) {
		if _, err := d.fs.Stat(dir); err == nil || dir == d.fs.PathDir(dir) {
			break
		}
		above = append(above, d.fs.PathDir(dir))
	}
	if err := d.fs.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	for _, dir := range above {
		if err := (directory{d.fs, dir}).sync(); err != nil {
			return err
		}
	}
	return nil
}

func (d directory) file(name string) string { return d.fs.PathJoin(d.path, name) }

func (d directory) read(name string) ([]byte, error) {
	f, err := d.fs.Open(d.file(name))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// write makes or replaces a file in one step, for its owner only.
func (d directory) write(name string, data []byte) error {
	part := d.file(name + partSuffix)
	f, err := d.fs.Create(part, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if d.fs == vfs.Default {
		err = os.Chmod(part, 0o600) // before anything is in it
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.Rename(part, d.file(name)); err != nil {
		return err
	}
	return d.sync()
}

// sync makes what was made, renamed or removed in the directory survive a power cut.
func (d directory) sync() error {
	dir, err := d.fs.OpenDir(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d directory) has(name string) (bool, error) {
	_, err := d.fs.Stat(d.file(name))
	if err == nil {
		return true, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return false, err
}

// lock keeps other processes, and other stores of this one, away.
func (d directory) lock() (io.Closer, error) {
	l, err := d.fs.Lock(d.file(lockName))
	if err == nil {
		return l, nil
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || isReadOnly(err) {
		return nil, fmt.Errorf("lock %s: %w", d.path, err)
	}
	return nil, fmt.Errorf("%w: %s: another server, or a check, works on this directory (%w): stop it first, or choose another directory",
		ErrInUse, d.path, err)
}

// strange returns the names of what is not ours in the directory.
func (d directory) strange() ([]string, error) {
	names, err := d.fs.List(d.path)
	if err != nil {
		return nil, err
	}
	var strange []string
	for _, name := range names {
		switch strings.TrimSuffix(name, partSuffix) {
		case formatName, keysName, logName, lockName, marksName, movedName:
		case "lost+found": // of a file system of its own
		default:
			strange = append(strange, name)
		}
	}
	return strange, nil
}

// restrict makes a directory its owner's only.
func restrict(fs vfs.FS, dir string) error {
	if fs != vfs.Default {
		return nil
	}
	return os.Chmod(dir, 0o700)
}
