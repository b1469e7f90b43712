package natstest

import (
	"os"
	"sync"
	"testing"
)

// shared is the cluster of a test process.
var shared struct { //nolint:gochecknoglobals // tests of a process share it
	mu      sync.Mutex
	cluster *Cluster
	ends    []func()
}

// Shared returns a cluster of three nodes that syncs, which is started for the first test that asks for it and runs until
// [EndShared]. Nodes are not to be stopped, and names not to be used twice.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil {
		shared.cluster = Start(longer{t}, Options{Nodes: 3, Sync: true})
	}
	return shared.cluster
}

// EndShared ends the shared cluster, if there is one.
func EndShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, end := range shared.ends {
		end()
	}
	shared.cluster, shared.ends = nil, nil
}

// longer makes what a test starts outlast it.
type longer struct{ testing.TB }

// TempDir implements [testing.TB].
func (l longer) TempDir() string {
	l.Helper()
	dir, err := os.MkdirTemp("", "natstest")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Cleanup implements [testing.TB]. It is called with shared.mu held. The last one runs first.
func (l longer) Cleanup(f func()) { shared.ends = append([]func(){f}, shared.ends...) }
