package disk

import (
	"errors"
	"fmt"
	"time"
)

// make makes a store. The format is written last: until it is there, a start begins from the beginning.
func (s *Store) make(shards int) error {
	strange, err := s.dir.strange()
	if err != nil {
		return err
	}
	if len(strange) > 0 {
		return fmt.Errorf("%s has no store and is not empty (%s is in it): choose another directory", s.dir.path, strange[0])
	}
	if err := s.fs.MkdirAll(s.dir.file(logName), 0o700); err != nil {
		return err
	}
	if err := s.openLog(s.pebbleOptions()); err != nil {
		return err
	}
	err = s.finish(format{newNumber(), shards})
	if err != nil {
		err = errors.Join(err, s.db.Close())
	}
	return err
}

func (s *Store) finish(f format) error {
	empty, err := s.empty()
	if err != nil {
		return damaged(err)
	}
	if !empty {
		return fmt.Errorf("%w: %s is missing, and there are batches: put the file back from a backup",
			ErrDamaged, s.dir.file(formatName))
	}
	keys, err := s.dir.has(keysName)
	if err == nil && !keys {
		err = s.dir.write(keysName, newKeys(time.Now()))
	}
	if err == nil {
		err = s.dir.checkKeys()
	}
	s.format, s.marks = f, make(marks, f.shards)
	if err == nil {
		err = s.dir.write(marksName, s.marks.encode())
	}
	if err == nil {
		err = s.dir.write(formatName, f.encode())
	}
	return err
}

func (s *Store) empty() (bool, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return false, err
	}
	found := it.First()
	return !found, errors.Join(it.Error(), it.Close())
}
