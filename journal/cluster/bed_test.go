package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// services counts the names that were given.
var services atomic.Int64 //nolint:gochecknoglobals // the cluster is shared, so names must not repeat

// service gives a service its own name in a shared cluster, and takes its streams away with the test.
func service(t testing.TB, o cluster.Options) cluster.Options {
	t.Helper()
	o.Name = fmt.Sprint("s", services.Add(1))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		js := jetStream(t, shared(t))
		_ = js.DeleteStream(ctx, "REPLYQ_"+o.Name) // a test may have done so
		_ = js.DeleteKeyValue(ctx, "REPLYQ_"+o.Name+"_nodes")
	})
	return o
}

// logs has the lines of a log.
type logs chan string

func (l logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Write implements [io.Writer].
func (l logs) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

// want waits for a line that has a text.
func (l logs) want(t *testing.T, text string) {
	t.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return
			}
		case <-timeout.C:
			t.Fatalf("no line of the log has %q", text)
		}
	}
}

// noise is a batch that compression does not make shorter, so that it takes as many messages as its size says.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want an error with %q", err, text)
	}
}

// shared is a cluster of three nodes that stays up while the tests run.
func shared(t testing.TB) *natstest.Cluster {
	t.Helper()
	return natstest.Shared(t)
}

// proxy stands in front of a node until the test ends.
func proxy(t testing.TB, n *natstest.Node) *faultnet.Proxy {
	t.Helper()
	p, err := faultnet.Listen(n.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}
