package journalflag

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

// names counts the services, whose names must not repeat in the cluster that all tests share.
var names atomic.Int64 //nolint:gochecknoglobals // see above

// inNATS gives a broker a service of its own in a shared cluster, which goes with the test.
func inNATS(t testing.TB, cfg *broker.Config) {
	t.Helper()
	shared := natstest.Shared(t)
	name := fmt.Sprint("t", names.Add(1))
	s, err := cluster.Open(t.Context(), cluster.Options{URL: shared.URL(), Name: name, Shards: 1, Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the broker's end
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := shared.Delete("REPLYQ_"+name, "KV_REPLYQ_"+name+"_nodes"); err != nil {
			t.Error(err)
		}
	})
	if cfg.Store == 0 {
		cfg.Store = s.Number()
	}
	cfg.Journal = func(shard uint16) (journal.Journal, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		return s.Take(ctx, int(shard))
	}
}

// Main is m for a TestMain: it ends the cluster that tests share.
type Main struct{ *testing.M }

// Run runs the tests.
func (m Main) Run() int {
	defer natstest.EndShared()
	return m.M.Run()
}
