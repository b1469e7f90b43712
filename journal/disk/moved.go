package disk

import (
	"fmt"
	"strings"
)

// MarkMoved marks a store whose content went elsewhere, so that it is not opened any more: what is confirmed there is not
// here. Nothing else is changed. The text says where, in one line.
func (s *Store) MarkMoved(to string) error {
	return s.dir.write(movedName, []byte(to+"\n"))
}

// Moved reports whether the store is marked.
func (s *Store) Moved() (bool, error) { return s.dir.has(movedName) }

// checkMoved refuses a store that was moved, unless it is to be moved again.
func (d directory) checkMoved(again bool) error {
	moved, err := d.has(movedName)
	if err != nil || !moved || again {
		return err
	}
	to, err := d.read(movedName)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: what %s had is now in %s. To go back to it, and lose all that came since: stop all that serve it "+
		"there, take it away there, and remove %s", ErrMoved, d.path, strings.TrimSpace(string(to)), d.file(movedName))
}
