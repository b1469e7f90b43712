// Package journalflag lets tests of the broker, the server and the client run with a journal: go test ./broker/... -args
// -journal disk. With -journal nats it is in a cluster of three nodes, for tests that run in real time.
package journalflag

import (
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/disk"
)

var kind = flag.String("journal", "none", "with which journal tests run: none, memory, disk, nats") //nolint:gochecknoglobals // a flag

// On reports whether a journal was asked for.
func On() bool { return *kind != "none" }

// slack is so little that journals are trimmed while a test runs.
const slack = 10_000

// Set gives a broker of one shard the journal that the flag names, unless it has one. With several, what one shard has for
// another waits for its journal: when it is there, and in which order, tests cannot know.
func Set(t testing.TB, cfg *broker.Config) {
	t.Helper()
	if cfg.Journal != nil || cfg.Shards > 1 {
		return
	}
	switch *kind {
	case "none":
		return
	case "memory":
		cfg.Journal = func(uint16) (journal.Journal, error) { return &journal.Memory{}, nil }
	case "disk":
		cfg.Journal = func(n uint16) (journal.Journal, error) { return open(n) }
	case "nats":
		inNATS(t, cfg)
	default:
		t.Fatalf("-journal %s: it is none, memory, disk or nats", *kind)
	}
	cfg.JournalSlack = slack
}

// A stored journal has a store of its own, which goes with it.
type stored struct {
	journal.Journal
	store *disk.Store
	dir   string
}

// open makes a store in a directory that need not be on a disk: tests look at what is kept, not at whether it survives.
func open(shard uint16) (journal.Journal, error) {
	dir, err := os.MkdirTemp(memory(), "replyq-test-")
	if err != nil {
		return nil, err
	}
	s, err := disk.Open(dir, disk.Options{AllowMemory: true})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	j, err := s.Journal(int(shard))
	if err != nil {
		return nil, errors.Join(err, s.Close(), os.RemoveAll(dir))
	}
	return &stored{j, s, dir}, nil
}

func memory() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return os.TempDir()
}

// Close implements [journal.Journal].
func (j *stored) Close() error {
	return errors.Join(j.Journal.Close(), j.store.Close(), os.RemoveAll(j.dir))
}
