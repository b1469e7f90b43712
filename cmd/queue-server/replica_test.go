package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/freeport"
	"github.com/replyq/replyq/internal/natstest"
)

// TestDocumentedRights: with the rights in NATS that docs/operating.md asks for, and no others, a service is begun, relays,
// hands over, and is started again.
func TestDocumentedRights(t *testing.T) {
	publish, subscribe := documentedRights(t, "shop")
	c := natstest.Start(t, natstest.Options{
		Extra: fmt.Sprintf("authorization { users = [ {user: all, password: p}\n"+
			"{user: replyq, password: p, permissions: {publish: {allow: %s}, subscribe: {allow: %s}}}\n] }", publish, subscribe),
		Client: []nats.Option{nats.UserInfo("all", "p")},
	})
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(handles.GenerateKeyLine(0, "mint", time.Now())), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(node string) *started { return startReplica(t, node, keys, "nats://replyq:p@"+c.Node(0).Address()) }
	a := start("a")
	a.enqueue(t, "one") // it serves
	b := start("b")
	b.enqueue(t, "two") // through a relay
	a.stop(t)           // a hand-over
	b.enqueue(t, "three")
	b.stop(t)
	a = start("a")
	if got, want := a.depth(t), uint64(3); got != want {
		t.Errorf("after a start there are %d messages, want %d", got, want)
	}
	a.stop(t)
}

var rights = regexp.MustCompile(`needs to publish to ((?:.|\n)*?), and to subscribe to (.*?)\.\n`)

// documentedRights are those of docs/operating.md for a service, as lists in a configuration of NATS.
func documentedRights(t *testing.T, service string) (publish, subscribe string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := rights.FindStringSubmatch(string(page))
	if found == nil {
		t.Fatalf("docs/operating.md has nothing like %s", rights)
	}
	list := func(text string) string {
		var subjects []string
		for i, part := range strings.Split(text, "`") {
			if i%2 == 1 {
				subjects = append(subjects, fmt.Sprintf("%q", strings.ReplaceAll(part, "<name>", service)))
			}
		}
		return "[" + strings.Join(subjects, ", ") + "]"
	}
	return list(found[1]), list(found[2])
}

// A started replica runs in this process.
type started struct {
	addr    string
	signals chan os.Signal
	done    chan error
	log     lockedBuffer
	client  *client.Client
}

func startReplica(t *testing.T, node, keys, url string) *started {
	t.Helper()
	addr := freeport.For(t)
	s := &started{addr: addr, signals: make(chan os.Signal, 1), done: make(chan error, 1)}
	c := serveCmd{
		Listen: addr, KeyFile: keys, ClusterName: "test", Node: node, DrainTimeout: 20 * time.Second, LogFormat: "text",
		LogLevel: slog.LevelInfo, MaxPayload: 1 << 20, MaxConnections: 100, TenantPipes: 100,
		natsFlags: natsFlags{NATSURL: url, NATSName: "shop", NATSReplicas: 1},
	}
	go func() {
		code := 0
		s.done <- c.serve(streams{&s.log, &s.log}, s.signals, &code)
	}()
	var err error
	if s.client, err = client.New(addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *started) enqueue(t *testing.T, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client.Enqueue(ctx, "work", client.Message{Payload: []byte(payload)}); err != nil {
		t.Fatalf("Enqueue at %s: %v; log:\n%s", s.addr, err, s.log.String())
	}
}

func (s *started) depth(t *testing.T) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	q, err := s.client.Queue(ctx, "work")
	if err != nil {
		t.Fatalf("Queue: %v; log:\n%s", err, s.log.String())
	}
	return q.GetStatistics().GetReady()
}

// stop stops the replica in order, unless it was. NATS must not have refused anything.
func (s *started) stop(t *testing.T) {
	t.Helper()
	if s.done == nil {
		return
	}
	_ = s.client.Close() // nothing is under way
	s.signals <- syscall.SIGTERM
	if err := <-s.done; err != nil {
		t.Errorf("serve() = %v", err)
	}
	s.done = nil
	if log := s.log.String(); strings.Contains(strings.ToLower(log), "permission") {
		t.Errorf("NATS has refused something:\n%s", log)
	}
}

// TestSyncCannotBeVerified: a start says what nobody but the operator can see to.
func TestSyncCannotBeVerified(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(handles.GenerateKeyLine(0, "mint", time.Now())), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startReplica(t, "a", keys, natstest.Start(t, natstest.Options{}).URL())
	s.enqueue(t, "one")
	s.stop(t)
	if log := s.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "sync_interval: always") {
		t.Errorf("want one warning, of sync_interval; log:\n%s", log)
	}
}

// A lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
