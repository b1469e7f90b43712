// Package integration_test drives the built binaries from outside, over sockets: from Go, and from Python and Node
// with stubs made of api/queue.proto alone. The story that the product comes from is told in story_*_test.go, one part
// to a file; the programs that play the parts are in python/, node/ and, for Go, roles_test.go.
//
// `make integration` sets these variables; without them the tests look in the same places, and build queue-server:
//
//	REPLYQ_BIN            folder with queue-server
//	REPLYQ_PYTHON         python with the packages of requirements.txt
//	REPLYQ_NODE_DIR       folder with the node_modules of node/package.json
//	REPLYQ_SKIP_POLYGLOT  not empty: leave out Python and Node
//	REPLYQ_RACE           not empty: build queue-server with the race detector, whatever REPLYQ_BIN says
//	REPLYQ_TOPOLOGY       cluster: servers are replicas of a service of three, over NATS; see topology_test.go
//	REPLYQ_LOAD           how many requests each waiter of the load test makes
//	REPLYQ_SOAK           how many times longer, or larger, the tests of overload are
package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// queueServer is the binary under test.
var queueServer string

// TestMain finds or builds the binary, and checks in the end that nothing that was started is left. When the test
// binary is started to play a part of the story, it does that instead.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role, os.Args[1:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "replyq-integration-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // of no use any more, whether or not it is gone
	stop := stopAtSignal(dir)
	if queueServer, err = findServer(dir); err != nil {
		return failed(err)
	}
	stubs.dir, sharedNATS.dir = dir, dir
	code = m.Run()
	sharedNATS.stop()
	if left := children.killAll(); len(left) > 0 {
		return failed(fmt.Errorf("processes left behind: %v", left))
	}
	stop()
	if err := goleak.Find(); err != nil && code == 0 {
		return failed(err)
	}
	return code
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "integration_test:", err)
	return 1
}

// stopAtSignal ends what was started when the test is interrupted: the children have process groups of their own, which
// a terminal's Ctrl-C does not reach.
func stopAtSignal(dir string) (stop func()) {
	signals, stopped := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			children.killAll()
			_ = os.RemoveAll(dir) // as in run
			os.Exit(1)
		case <-stopped:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(stopped)
	}
}

// findServer returns the path of queue-server.
func findServer(dir string) (string, error) {
	race := os.Getenv("REPLYQ_RACE") != ""
	if bin := os.Getenv("REPLYQ_BIN"); bin != "" && !race {
		path, err := filepath.Abs(filepath.Join(bin, "queue-server"))
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("REPLYQ_BIN: %w: run make build", err)
		}
		return path, nil
	}
	args := []string{"build", "-ldflags", "-X main.version=" + builtVersion}
	if race {
		args = append(args, "-race")
	}
	path := filepath.Join(dir, "queue-server")
	build := exec.Command("go", append(args, "-o", path, "../cmd/queue-server")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build queue-server: %w", err)
	}
	return path, nil
}

// builtVersion is the version of a server that the tests have built.
const builtVersion = "integration"
