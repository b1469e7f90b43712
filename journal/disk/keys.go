package disk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/replyq/replyq/handles"
)

// sumMark begins the comment behind a key that its checksum stands in. Lines added by hand may do without.
const sumMark = "# crc32c "

// newKeys is the key ring of a new store.
func newKeys(now time.Time) []byte {
	line := handles.GenerateKeyLine(0, "mint", now)
	return fmt.Appendf(nil, "# The keys that sign this store's handles: without them nobody can use those any more.\n%s %s%08x\n",
		line, sumMark, keySum([]byte(line)))
}

// keySum is over id and root of a key: its state is for the operator to change.
func keySum(line []byte) uint32 {
	fields := bytes.Fields(line)
	if len(fields) != 4 {
		return 0
	}
	return crc32.Update(crc32.Checksum(fields[0], castagnoli), castagnoli, fields[3])
}

// checkKeys refuses a key ring that others can read, that is missing or damaged.
func (d directory) checkKeys() error {
	name := d.file(keysName)
	info, err := d.fs.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: the keys are missing: %s: without them all handles that clients have are void: put the file back from "+
			"a backup, or make a new ring if that is what you want (queue-server new-key > %s)", ErrDamaged, name, name)
	}
	if err != nil {
		return err
	}
	if d.fs == vfs.Default && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s: others than its owner can read or write it (%s): chmod 600 %s", name, info.Mode().Perm(), name)
	}
	file, err := d.read(keysName)
	if err != nil {
		return err
	}
	if err := verifyKeys(file); err != nil {
		return fmt.Errorf("%w: %s: %w: put the file back from a backup", ErrDamaged, name, err)
	}
	return nil
}

func verifyKeys(file []byte) error {
	n := 0
	for line := range bytes.Lines(file) {
		n++
		key, comment, _ := bytes.Cut(line, []byte(sumMark))
		if len(comment) == 0 {
			continue
		}
		sum, err := hex.DecodeString(string(bytes.TrimSpace(comment)))
		if want := keySum(key); err != nil || len(sum) != 4 || !bytes.Equal(sum, []byte{byte(want >> 24), byte(want >> 16), byte(want >> 8), byte(want)}) {
			return fmt.Errorf("line %d is not what was written: its checksum is wrong", n)
		}
	}
	if _, err := handles.ParseKeys("", file); err != nil {
		return err
	}
	return nil
}
