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

// turnedReadOnly fails if the file system of an open file is read-only. Linux does that to one that has trouble with its
// disk, and then fsync says that all is well although nothing was written.
func turnedReadOnly(fd uintptr) error {
	var st unix.Statfs_t
	for {
		switch err := unix.Fstatfs(int(fd), &st); {
		case err == unix.EINTR:
		case err != nil:
			return err
		case st.Flags&unix.ST_RDONLY != 0:
			return unix.EROFS
		default:
			return nil
		}
	}
}

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// extend gives a file room, and size if it has none there.
func extend(fd uintptr, at, length int64) error { return unix.Fallocate(int(fd), 0, at, length) }
