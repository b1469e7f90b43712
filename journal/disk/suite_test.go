package disk_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/disk"
	"github.com/replyq/replyq/journal/journaltest"
)

func TestSuite(t *testing.T) {
	disk.NoLeaks(t)
	for name, o := range map[string]disk.Options{
		"fsync":          {},
		"fsync later":    {FsyncInterval: time.Millisecond},
		"several shards": {Shards: 3},
	} {
		t.Run(name, func(t *testing.T) {
			journaltest.Run(t, func(t *testing.T) (journal.Journal, func() (journal.Journal, error)) {
				dir := t.TempDir()
				s := open(t, dir, o)
				again := func() (journal.Journal, error) {
					if err := s.Close(); err != nil {
						return nil, err
					}
					s = open(t, dir, o)
					return s.Journal(0)
				}
				return journalOf(t, s, 0), again
			})
		})
	}
}
