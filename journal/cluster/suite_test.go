package cluster_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
	"github.com/replyq/replyq/journal/journaltest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		natstest.EndShared()
		os.Exit(code)
	}))
}

// open opens a store that is closed with the test.
func open(t testing.TB, o cluster.Options) *cluster.Store {
	t.Helper()
	s, err := cluster.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func take(t testing.TB, s *cluster.Store, shard int) journal.Journal {
	t.Helper()
	j, err := s.Take(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestSuite(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			c := shared(t)
			if nodes == 1 {
				c = natstest.Start(t, natstest.Options{})
			}
			journaltest.Run(t, func(t *testing.T) (journal.Journal, func() (journal.Journal, error)) {
				o := cluster.Options{URL: c.URL(), Name: fmt.Sprint("s", services.Add(1)), Shards: 2, Replicas: nodes, Node: "a"}
				s := open(t, o)
				again := func() (journal.Journal, error) {
					if err := s.Close(); err != nil {
						return nil, err
					}
					s = open(t, o)
					return s.Take(t.Context(), 0)
				}
				return take(t, s, 0), again
			})
		})
	}
}
