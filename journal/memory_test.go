package journal_test

import (
	"testing"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/journaltest"
)

func TestMemory(t *testing.T) {
	journaltest.Run(t, func(*testing.T) (journal.Journal, func() (journal.Journal, error)) {
		return &journal.Memory{}, nil
	})
}
