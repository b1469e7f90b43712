package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/freeport"
)

// canary begins the payloads of the tests, and must not be found in a server's log.
const canary = "canary"

// A server is a running queue-server.
type server struct {
	*process
	addr     string
	watching *grpc.ClientConn
	troubled bool // what happens to it may be an error in its log
}

// startServer starts queue-server at a free address, which is kept for it until the test is over: it may be started there
// again. When the test is over its log must be free of secrets.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	return startServerAt(t, freeport.For(t), flags...)
}

func startServerAt(t *testing.T, addr string, flags ...string) *server {
	t.Helper()
	if replicated() {
		return startReplicated(t, addr, flags...)
	}
	s := launchServer(t, exec.Command(queueServer, serverFlags(addr, flags...)...))
	s.awaitServing(t)
	return s
}

// serverFlags are the flags of every server, and more.
func serverFlags(addr string, more ...string) []string {
	return append([]string{"--listen", addr, "--log-format", "json", "--log-level", "debug"}, more...)
}

// launchServer starts a server, and does not wait until it serves.
func launchServer(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{process: start(t, "queue-server", cmd)}
	t.Cleanup(func() {
		s.kill()
		checkSecrets(t, s.log.String())
		if !s.troubled {
			checkFailures(t, s.log.String())
		}
	})
	return s
}

func (s *server) awaitServing(t *testing.T) {
	t.Helper()
	eventually(t, "queue-server serves", func() bool {
		if s.over() {
			t.Fatalf("queue-server has ended: %v", s.err)
		}
		s.addr = servingAddress(s.log.String())
		return s.addr != ""
	})
}

// servingAddress finds in a log where the server listens.
func servingAddress(log string) string {
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
			return entry.Address
		}
	}
	return ""
}

// checkSecrets looks for what must never be in a log.
func checkSecrets(t *testing.T, log string) {
	t.Helper()
	lower := strings.ToLower(log)
	for _, secret := range []string{"qh1s_", "qh1r_", "qh1l_", "qk1_", canary} {
		if strings.Contains(lower, secret) {
			t.Errorf("the server's log contains %q", secret)
		}
	}
}

// checkFailures looks for what must not be in the log of a server to which nothing bad happens.
func checkFailures(t *testing.T, log string) {
	t.Helper()
	lower := strings.ToLower(log)
	for _, failure := range []string{"panic", "data race", `"level":"error"`} {
		if strings.Contains(lower, failure) {
			t.Errorf("the server's log reports %s:\n%s", failure, log)
		}
	}
}

// client returns a Go client, which is closed when the test is over.
func (s *server) client(t *testing.T, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(s.addr, options...)
	if err != nil {
		t.Fatalf("client.New() = %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Client.Close() = %v", err)
		}
	})
	return c
}

// stub returns a generated stub on a connection of its own.
func (s *server) stub(t *testing.T) queuepb.QueueServiceClient {
	t.Helper()
	return queuepb.NewQueueServiceClient(s.dial(t))
}

func (s *server) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // fails only if it was closed before
	return conn
}

// writeFile writes a file into a folder of the test, readable by its owner alone, and returns its name.
func writeFile(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runServerCommand runs one of queue-server's other commands and returns exit code and output.
func runServerCommand(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	cmd := exec.Command(queueServer, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REPLYQ_") })
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("queue-server %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(out))
}

// statistics are the figures of a queue of the default tenant; all zero if there is no such queue.
func (s *server) statistics(t *testing.T, queue string) *queuepb.QueueStatistics {
	t.Helper()
	res, err := queuepb.NewAdminServiceClient(s.watcher(t)).GetQueue(t.Context(), &queuepb.GetQueueRequest{Name: queue})
	if status.Code(err) == codes.NotFound {
		return &queuepb.QueueStatistics{}
	}
	if err != nil {
		t.Fatalf("GetQueue(%q) = %v", queue, err)
	}
	return res.GetQueue().GetStatistics()
}

// awaitReaders waits until a pipe has so many readers.
func (s *server) awaitReaders(t *testing.T, receive string, n uint32) {
	t.Helper()
	stub := queuepb.NewQueueServiceClient(s.watcher(t))
	eventually(t, fmt.Sprintf("the pipe has %d readers", n), func() bool {
		res, err := stub.Describe(t.Context(), &queuepb.DescribeRequest{Handle: &queuepb.Handle{Token: receive}})
		if err != nil {
			t.Fatalf("Describe() = %v", err)
		}
		return res.Readers == n
	})
}

// watcher is the connection of those who look on.
func (s *server) watcher(t *testing.T) *grpc.ClientConn {
	t.Helper()
	if s.watching == nil {
		s.watching = s.dial(t)
	}
	return s.watching
}

// startTwoTenants starts a server that knows two tenants, default and other, and returns a key of each.
func startTwoTenants(t *testing.T, flags ...string) (s *server, key, otherKey string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "api-keys")
	newKey := func(args ...string) string {
		code, key := runServerCommand(t, append([]string{"new-api-key", "--append", file}, args...)...)
		if code != 0 {
			t.Fatalf("new-api-key: %s", key)
		}
		return key
	}
	key = newKey("--principal", "alice")
	otherKey = newKey("--principal", "mallory", "--tenant", "other", "--tenant-number", "2")
	return startServer(t, append(flags, "--api-keys", file)...), key, otherKey
}
