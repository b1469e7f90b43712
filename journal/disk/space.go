package disk

import (
	"errors"
	"os"
)

// A Space says how much room there is.
type Space struct {
	Free  uint64 // bytes of the file system that this process may still take
	Total uint64 // bytes of the file system
	Store uint64 // bytes that the store takes
}

// Space returns how much room there is. It asks the file system, and may block as long as that does.
func (s *Store) Space() (Space, error) {
	usage, err := s.fs.GetDiskUsage(s.dir.path)
	if err != nil {
		return Space{}, err
	}
	size, err := s.dir.size("")
	return Space{Free: usage.AvailBytes, Total: usage.TotalBytes, Store: size}, err
}

// size adds up the files below a directory. What is removed meanwhile does not count.
func (d directory) size(name string) (uint64, error) {
	info, err := d.fs.Stat(d.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !info.IsDir() {
		return uint64(info.Size()), nil
	}
	names, err := d.fs.List(d.file(name))
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, n := range names {
		size, err := d.size(d.fs.PathJoin(name, n))
		if err != nil {
			return 0, err
		}
		sum += size
	}
	return sum, nil
}
