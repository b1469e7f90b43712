package disk

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
)

// Backup copies the store to a directory, which must be empty or not exist yet, while the store is in use. It has every
// batch that was kept before the call, and is opened like any other store; on the same file system it shares what does not
// change with the original, and so takes no time and little room. It is as secret as the store.
func (s *Store) Backup(dir string) error {
	to := directory{s.fs, dir}
	if err := to.make(); err != nil {
		return err
	}
	names, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%s is not empty (%s is in it): choose another directory for the backup", dir, names[0])
	}
	if err := s.await(s.ctx, func() error { return s.backup(to) }); err != nil {
		return fmt.Errorf("back up to %s: %w", dir, errors.Join(err, to.clear()))
	}
	return nil
}

// backup writes the format last: without it a copy that was cut short is no store.
func (s *Store) backup(to directory) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.err(); err != nil {
		return err
	}
	m := s.kept()
	if err := s.db.Checkpoint(to.file(logName), pebble.WithFlushedWAL()); err != nil {
		return err
	}
	if err := s.err(); err != nil {
		return err
	}
	if err := restrict(s.fs, to.file(logName)); err != nil {
		return err
	}
	keys, err := s.dir.read(keysName)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{keysName: keys, marksName: m.encode()} {
		if err := to.write(name, data); err != nil {
			return err
		}
	}
	return to.write(formatName, s.format.encode())
}

// clear removes what a backup that failed has left.
func (d directory) clear() error {
	var err error
	for _, name := range []string{logName, keysName, marksName, formatName} {
		for _, n := range []string{name, name + partSuffix} {
			if e := d.fs.RemoveAll(d.file(n)); !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}
