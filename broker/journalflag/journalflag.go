// Package journalflag lets the tests of the broker run with a journal: go test ./broker/... -args -journal memory.
package journalflag

import (
	"flag"
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

var kind = flag.String("journal", "none", "with which journal tests of the broker run: none, memory") //nolint:gochecknoglobals // a flag

// On reports whether a journal was asked for.
func On() bool { return *kind != "none" }

// Set gives a broker of one shard the journal that the flag names, unless it has one. With several, what one shard has for
// another waits for its journal: when it is there, and in which order, tests cannot know.
func Set(t testing.TB, cfg *broker.Config) {
	if cfg.Journal != nil || cfg.Shards > 1 {
		return
	}
	switch *kind {
	case "none":
	case "memory":
		cfg.Journal = func(uint16) (journal.Journal, error) { return &journal.Memory{}, nil }
		cfg.JournalSlack = 10_000
	default:
		t.Fatalf("-journal %s: none or memory", *kind)
	}
}
