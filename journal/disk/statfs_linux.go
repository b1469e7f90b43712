package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// refuseMemory refuses a directory that would not survive the machine.
func refuseMemory(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: what file system it is on: %w", dir, err)
	}
	switch uint32(st.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return fmt.Errorf("%w: %s is on tmpfs or ramfs and will be gone with the machine: choose a directory on a disk, or "+
			"start without one if nothing has to survive", ErrVolatile, dir)
	}
	return nil
}

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }
