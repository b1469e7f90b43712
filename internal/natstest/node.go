package natstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/replyq/replyq/internal/freeport"
)

// A Node is one NATS server.
type Node struct {
	t    testing.TB
	path string
	dir  string
	name string
	addr string
	cmd  *exec.Cmd // nil when it does not run
}

// newNode makes a node that listens for others at peers.
func newNode(t testing.TB, path string, o Options, i int, peers string, routes []string) *Node {
	t.Helper()
	n := &Node{t: t, path: path, dir: t.TempDir(), name: fmt.Sprintf("n%d", i), addr: freeport.For(t)}
	if err := os.WriteFile(n.config(), []byte(configuration(n, o, peers, routes)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.kill)
	return n
}

// configuration has routes to the other nodes. A node does not tell clients of the others, nor the others how to reach it:
// tests put proxies in front.
func configuration(n *Node, o Options, peers string, routes []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %s\nlisten: %q\nmax_payload: %s\nmax_pending: 128MB\n", n.name, n.addr, o.MaxPayload)
	fmt.Fprintf(&b, "jetstream {\n  store_dir: %q\n  max_file_store: 8GB\n", filepath.Join(n.dir, "store"))
	if o.Sync {
		b.WriteString("  sync_interval: always\n")
	}
	b.WriteString("}\n" + o.Extra + "\n")
	if o.Nodes == 1 {
		return b.String()
	}
	quoted := make([]string, 0, len(routes))
	for _, r := range routes {
		quoted = append(quoted, fmt.Sprintf("\"nats://%s\"", r))
	}
	fmt.Fprintf(&b, "cluster {\n  name: test\n  listen: %q\n  no_advertise: true\n  advertise: \"127.0.0.1:1\"\n  routes: [%s]\n}\n",
		peers, strings.Join(quoted, ", "))
	return b.String()
}

// Name is the server's name.
func (n *Node) Name() string { return n.name }

// Address is where the server takes clients, as host:port.
func (n *Node) Address() string { return n.addr }

// URL is the same as a URL.
func (n *Node) URL() string { return "nats://" + n.Address() }

func (n *Node) config() string { return filepath.Join(n.dir, "nats.conf") }

func (n *Node) start() {
	n.t.Helper()
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()            // the server has its own
	cmd := exec.Command(n.path, "-c", n.config()) //nolint:noctx,gosec // it ends with the test
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, attributes()
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.cmd = cmd
}

func (n *Node) kill() { n.end(syscall.SIGKILL) }

func (n *Node) stop() { n.end(syscall.SIGTERM) }

func (n *Node) end(by syscall.Signal) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(by)
	_ = n.cmd.Wait() // says only how it was ended
	n.cmd = nil
}

func (n *Node) pause() { n.signal(syscall.SIGSTOP) }

func (n *Node) resume() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	n.t.Helper()
	if n.cmd == nil {
		n.t.Fatalf("natstest: %s does not run", n.name)
	}
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// tail is the end of what the server has logged.
func (n *Node) tail() string {
	content, err := os.ReadFile(filepath.Join(n.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-4000):])
}
