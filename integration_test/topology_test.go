package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/replyq/replyq/internal/natstest"
)

// The same tests against a service of several replicas: with REPLYQ_TOPOLOGY=cluster, who starts a server gets one of three
// replicas, which does not serve by itself, and all it is asked goes to another one.

const topologyVariable = "REPLYQ_TOPOLOGY"

// differs has the bad requests that are good ones where there is a journal, or several shards.
var differs = map[string]string{
	"pipe: timeout of 25 h":         "with a journal a pipe may wait for 30 days",
	"Splice: unknown":               "the other pipe is in another shard, which tells the one that was spliced",
	"Splice: slot reused":           "likewise",
	"Splice: no such shard":         "likewise",
	"Splice: the seventeenth":       "likewise",
	"Splice: of a pipe into itself": "likewise",
}

// tooGood tells whether a bad request is none here, and why.
func tooGood(row string) string {
	if !replicated() {
		return ""
	}
	return differs[row]
}

// replicated tells whether servers are replicas.
func replicated() bool { return os.Getenv(topologyVariable) == "cluster" }

// startReplicated starts three replicas of a service of its own, and returns one that relays.
func startReplicated(t *testing.T, addr string, flags ...string) *server {
	t.Helper()
	if slices.Contains(flags, "--data-dir") {
		t.Skip("replicas have no data directory")
	}
	nats := sharedNATS.start(t)
	name := strings.ReplaceAll(t.Name(), "/", "_")
	name = fmt.Sprintf("%s_%d", name[:min(len(name), 40)], sharedNATS.next())
	name = strings.Map(func(c rune) rune {
		if strings.ContainsRune("-_", c) || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
			return c
		}
		return '-'
	}, name)
	t.Cleanup(func() {
		if err := nats.Delete("REPLYQ_"+name, "KV_REPLYQ_"+name+"_nodes"); err != nil {
			t.Error(err)
		}
	})
	flags = append(flags, "--nats-url", nats.URL(), "--nats-name", name)
	if !slices.Contains(flags, "--key-file") {
		_, key := runServerCommand(t, "new-key")
		flags = append(flags, "--key-file", writeFile(t, "keys", key))
	}
	owner := launchReplica(t, "127.0.0.1:0", "r0", flags)
	owner.awaitLog(t, `"msg":"this replica serves"`)
	relay, spare := launchReplica(t, addr, "r1", flags), launchReplica(t, "127.0.0.1:0", "r2", flags)
	for _, s := range []*server{relay, spare} {
		s.awaitServing(t)
		s.awaitLog(t, `"msg":"another replica serves"`)
	}
	return relay
}

func launchReplica(t *testing.T, addr, node string, flags []string) *server {
	t.Helper()
	return launchServer(t, exec.Command(queueServer, serverFlags(addr, append(flags[:len(flags):len(flags)], "--node", node)...)...))
}

func (s *server) awaitLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the log has "+text, func() bool {
		if s.over() {
			t.Fatalf("queue-server has ended: %v", s.err)
		}
		return strings.Contains(s.log.String(), text)
	})
}

// sharedNATS is there for all tests, once one of them needs it.
var sharedNATS natsOfRun

type natsOfRun struct {
	mu      sync.Mutex
	dir     string // set before any test
	tb      *wholeRun
	cluster *natstest.Cluster
	names   int
}

func (n *natsOfRun) start(t *testing.T) *natstest.Cluster {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cluster == nil {
		n.tb = &wholeRun{TB: t, dir: n.dir}
		n.cluster = natstest.Start(n.tb, natstest.Options{Nodes: replicas})
	}
	return n.cluster
}

func (n *natsOfRun) next() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names++
	return n.names
}

// stop is called when all tests are over.
func (n *natsOfRun) stop() {
	if n.tb == nil {
		return
	}
	for _, f := range slices.Backward(n.tb.cleanups) {
		f()
	}
}

// A wholeRun is a test for what outlives it: it is the one that needed it first.
type wholeRun struct {
	testing.TB
	dir      string
	cleanups []func()
}

// Cleanup implements [testing.TB].
func (r *wholeRun) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// TempDir implements [testing.TB].
func (r *wholeRun) TempDir() string {
	r.Helper()
	dir, err := os.MkdirTemp(r.dir, "nats-")
	if err != nil {
		r.Fatal(err)
	}
	return dir
}
