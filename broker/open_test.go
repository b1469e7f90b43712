package broker_test

import (
	"errors"
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

// When one journal cannot be opened those opened before it are closed, and nothing else happens.
func TestOpenFails(t *testing.T) {
	broken := errors.New("broken")
	first := &journal.Memory{}
	_, err := broker.Open(broker.Config{Shards: 2, Journal: func(shard uint16) (journal.Journal, error) {
		if shard == 1 {
			return nil, broken
		}
		return first, nil
	}})
	if !errors.Is(err, broken) {
		t.Errorf("Open: %v, want %v", err, broken)
	}
	if _, err := first.Append(t.Context(), []byte("x")); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Append to the first journal: %v, want that it is closed", err)
	}
}
