package natstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// binary finds nats-server: the one that REPLYQ_NATS_SERVER names, the one among the built tools, or one that it builds there.
var binary = sync.OnceValues(func() (string, error) { //nolint:gochecknoglobals // found once per process
	if path := os.Getenv("REPLYQ_NATS_SERVER"); path != "" {
		return path, nil
	}
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("natstest: the source is not known: set REPLYQ_NATS_SERVER to a nats-server")
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")
	path := filepath.Join(root, "bin", "tools", "nats-server")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, build(root, path)
})

// build builds nats-server beside its final name, so that test processes that do it at the same time do not disturb each other.
func build(root, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as the Makefile does
		return fmt.Errorf("natstest: %w", err)
	}
	own := fmt.Sprintf("%s.%d", path, os.Getpid())
	cmd := exec.Command("go", "build", "-o", own, "github.com/nats-io/nats-server/v2") //nolint:noctx,gosec // ends by itself
	cmd.Dir = filepath.Join(root, "tools")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("natstest: build nats-server: %w\n%s", err, out)
	}
	if err := os.Rename(own, path); err != nil {
		return fmt.Errorf("natstest: %w", err)
	}
	return nil
}

// Binary is the path of a nats-server, for tests that start it by themselves.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
