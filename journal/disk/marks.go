package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/replyq/replyq/journal"
)

// Marks are, by shard, positions that are known to be kept: a store that ends before one has lost batches. They are
// written when a log was written out and when the store closes, and stand outside of Pebble, because a log or a manifest
// whose end is damaged looks to it like one that a crash cut short.
type marks []journal.Position

func (m marks) encode() []byte {
	var text strings.Builder
	text.WriteString("replyq-marks 1\n")
	for shard, p := range m {
		fmt.Fprintf(&text, "%d %d\n", shard, p)
	}
	return seal(text.String())
}

func parseMarks(file []byte, shards int) (marks, error) {
	text, err := unseal(file)
	if err != nil {
		return nil, err
	}
	head, rest, _ := strings.Cut(text, "\n")
	if head != "replyq-marks 1" {
		return nil, errors.New("it does not begin like one")
	}
	m := make(marks, shards)
	for line := range strings.Lines(rest) {
		var shard int
		var p journal.Position
		if _, err := fmt.Sscanf(line, "%d %d\n", &shard, &p); err != nil || shard < 0 || shard >= shards {
			return nil, fmt.Errorf("its line %q is none of %d shards", strings.TrimSpace(line), shards)
		}
		m[shard] = p
	}
	return m, nil
}

// readMarks returns what has to be there: marks, and what the logs give away. Without the file it is nothing.
func (d directory) readMarks(shards int) (marks, error) {
	file, err := d.read(marksName)
	if errors.Is(err, os.ErrNotExist) {
		return make(marks, shards), nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseMarks(file, shards)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: remove the file, which only serves to notice lost batches, and check the store",
			ErrDamaged, d.file(marksName), err)
	}
	return m, d.traces(m)
}

// verify compares marks with what the store has. The store is opened for reading only, so that a start that is refused
// changes nothing.
func (s *Store) verify(m marks) error {
	options := s.pebbleOptions()
	options.ReadOnly = true
	options.ErrorIfNotExists = true
	if err := s.openLog(options); err != nil {
		return err
	}
	err := s.compare(m)
	return errors.Join(err, s.db.Close())
}

func (s *Store) compare(m marks) error {
	for shard, mark := range m {
		_, last, err := s.bounds(uint16(shard))
		if err != nil {
			return err
		}
		if last < mark {
			return fmt.Errorf("%w: batches %d to %d of shard %d were kept in %s and are gone: restore the directory from a backup, or "+
				"go on without them: remove %s", ErrDamaged, last+1, mark, shard, s.dir.file(logName), s.dir.file(marksName))
		}
		m[shard] = last
	}
	return nil
}

// kept returns the marks of now. Only with an fsync per batch, or after one of all, are they true.
func (s *Store) kept() marks {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := append(marks(nil), s.marks...)
	for shard, j := range s.journals {
		m[shard] = max(m[shard], j.kept())
	}
	return m
}

// flushed is called by Pebble when it has written out a log.
func (s *Store) flushed(info pebble.FlushInfo) {
	if info.Err != nil || s.options.FsyncInterval > 0 {
		return
	}
	select {
	case s.mark <- struct{}{}:
	default:
	}
}

// writeMarks is the goroutine that brings the marks up to date.
func (s *Store) writeMarks() {
	for {
		select {
		case <-s.mark:
			if err := s.dir.write(marksName, s.kept().encode()); err != nil {
				s.fail(err)
			}
		case <-s.ended:
			return
		case <-s.ctx.Done():
			return
		}
	}
}
