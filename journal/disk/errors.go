package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// Errors of [Open] and [Check], for errors.Is. Their text names the file or batch, and the way out.
var (
	// ErrInUse says that another process has the directory.
	ErrInUse = errors.New("the store is in use")
	// ErrNewer says that a newer version has written the store.
	ErrNewer = errors.New("the store is newer than this version")
	// ErrDamaged says that something in the store is not what was written, or is missing. Read yields it too.
	ErrDamaged = errors.New("the store is damaged")
	// ErrMoved says that what the store has was moved elsewhere.
	ErrMoved = errors.New("the store was moved")
	// ErrVolatile says that the directory is in memory and would not survive the machine.
	ErrVolatile = errors.New("the directory is in memory")
)

// damaged marks an error of Pebble's about damage as one.
func damaged(err error) error {
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrDamaged) {
		return damage(err)
	}
	return err
}

// damagedLog does so when an old log cannot be opened: what is none of the system's errors, or of a file that is not there,
// is damage.
func damagedLog(err error) error {
	var number syscall.Errno
	if errors.Is(err, ErrDamaged) || errors.As(err, &number) && number != syscall.ENOENT || errors.Is(err, os.ErrPermission) {
		return err
	}
	return damage(err)
}

func damage(err error) error {
	return fmt.Errorf("%w: %w: restore the directory from a backup", ErrDamaged, plain{err})
}

// A plain error has the text of one of Pebble's in one line.
type plain struct{ error }

// Error implements error.
func (e plain) Error() string {
	text := strings.ReplaceAll(e.error.Error(), "<corruption detail carrier>", "")
	return strings.Join(strings.Fields(text), " ")
}

// Unwrap is for errors.Is.
func (e plain) Unwrap() error { return e.error }
