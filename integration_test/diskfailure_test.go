//go:build linux

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/replyq/replyq/client"
)

// TestP24FailingDisk: a server that cannot write any more ends, with an exit code and a word of its own; what it has confirmed
// until then is there afterwards, and nothing else was said to be.
func TestP24FailingDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := startDurable(t, dir)
	s.troubled = true
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	c := s.client(t, client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
	if _, err := c.Enqueue(ctx, "q", client.Message{Payload: []byte(canary)}); err != nil {
		t.Fatal(err)
	}
	// It can open no file from now on, and needs a new one after some MiB.
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 1}, nil); err != nil {
		t.Skipf("prlimit: %v", err)
	}
	large := strings.Repeat("x", 256<<10)
	var all sync.WaitGroup
	var mu sync.Mutex
	confirmed := 1
	enqueuing, giveUp := context.WithCancel(ctx)
	defer giveUp()
	for p := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				_, err := c.Enqueue(enqueuing, "q", client.Message{Payload: fmt.Append(nil, canary, p, i, large)})
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("Enqueue() = %v", err)
					}
					return
				}
				mu.Lock()
				confirmed++
				mu.Unlock()
			}
		})
	}
	code := s.wait(t, patience)
	giveUp()
	all.Wait()
	if log := s.log.String(); code != 5 || !strings.Contains(log, "the disk failed: the server ends") {
		t.Errorf("exit code %d, want 5 and a word:\n%s", code, log)
	}
	s = startServerAt(t, s.addr, durable(dir)...)
	// What was under way when it ended may have been kept, too.
	if q := s.statistics(t, "q"); q.Ready < uint64(confirmed) || q.Ready > uint64(confirmed+4) {
		t.Errorf("%d messages, %d were confirmed", q.Ready, confirmed)
	}
	if code, output := runServerCommand(t, "check", dir); code != 1 || !strings.Contains(output, "in use") {
		t.Errorf("check of a directory in use = %d, %q", code, output)
	}
	s.kill()
	if code, output := runServerCommand(t, "check", dir); code != 0 {
		t.Errorf("check = %d, %q", code, output)
	}
}

// TestTmpfsIsRefused: a directory in memory is no data directory unless somebody insists.
func TestTmpfsIsRefused(t *testing.T) {
	t.Parallel()
	const shm = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(shm, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skipf("%s is no tmpfs (%v)", shm, err)
	}
	code, output := runServerCommand(t, "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(shm, "replyq-test"))
	if code != 1 || !strings.Contains(output, "tmpfs") || !strings.Contains(output, "choose a directory on a disk") {
		t.Errorf("queue-server = %d, %q, want exit code 1, and why", code, output)
	}
}
