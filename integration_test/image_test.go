//go:build linux

package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// An image is a file with a file system in it, which exists only in the world of the server that lies in it: the server
// mounts it in a mount namespace of its own, so that the mount and its loop device are gone when the server is, even if
// nobody is left to clean up.
type image struct {
	t    *testing.T
	file string
	dir  string // where it is mounted
}

// newImage makes an image of a size. The test is skipped where that cannot be done.
func newImage(t *testing.T, size int64) *image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: to mount a file system takes root")
	}
	for _, program := range []string{"mkfs.ext4", "unshare", "mount", "cp", "nsenter", "fsfreeze"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("skipped: there is no %s here", program)
		}
	}
	dir := imageDir(t)
	i := &image{t: t, file: filepath.Join(dir, "image"), dir: filepath.Join(dir, "mounted")}
	if err := os.Mkdir(i.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(i.file, size); err != nil {
		t.Fatal(err)
	}
	// Whole from the start: what the kernel initializes later on would be written while the image is copied.
	tool(t, "mkfs.ext4", "-q", "-m", "0", "-N", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", i.file)
	if out, err := i.inside("true").CombinedOutput(); err != nil {
		t.Skipf("skipped: a file system cannot be mounted here: %v: %s", err, out)
	}
	return i
}

// imageDir is a directory for an image: in memory, if there is such a place, where the kernel has nothing to wait for but
// what it does with the image itself.
func imageDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "replyq-image-") //nolint:usetesting // not where t.TempDir is
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // of no use any more, whether or not it is gone
	return dir
}

// discard removes the image before the test is over, when its server is gone.
func (i *image) discard() {
	i.t.Helper()
	if err := os.RemoveAll(filepath.Dir(i.file)); err != nil {
		i.t.Error(err)
	}
}

// inside is a command that runs where the image is mounted.
func (i *image) inside(args ...string) *exec.Cmd {
	script := `mount -t ext4 -o loop "$1" "$2" && shift 2 && exec "$@"`
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh", i.file, i.dir}, args...)...)
}

// server is a server whose files are in the image.
func (i *image) server(flags ...string) *exec.Cmd {
	return i.inside(append([]string{queueServer}, flags...)...)
}

// store is the data directory of such a server.
func (i *image) store() string { return filepath.Join(i.dir, "store") }

// path is the name outside of a file that the server sees in the image.
func (i *image) path(s *server, name string) string {
	return filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "root", i.dir, name)
}

// freeze has the file system hang: whoever writes to it or syncs it waits, until thaw.
func (i *image) freeze(s *server) { i.fsfreeze(s, "--freeze") }
func (i *image) thaw(s *server)   { i.fsfreeze(s, "--unfreeze") }

func (i *image) fsfreeze(s *server, what string) {
	i.t.Helper()
	tool(i.t, "nsenter", "--mount", "--target", strconv.Itoa(s.cmd.Process.Pid), "fsfreeze", what, i.dir)
}

// cutPower stops the server in the midst of what it does, takes the image as it is on the device at that moment, kills the
// server, and goes on with that. What only the kernel knew is lost.
func (i *image) cutPower(s *server) {
	i.t.Helper()
	s.signal(i.t, syscall.SIGSTOP)
	eventually(i.t, "all threads of the server have stopped", func() bool { return stopped(i.t, s.cmd.Process.Pid) })
	device := i.device(s)
	after := i.file + ".cut"
	quiet := false
	for range 20 { // the kernel may write of its own accord just now, and a copy is of one moment only if it does not
		before := i.written(device)
		tool(i.t, "cp", "--sparse=always", i.file, after)
		if quiet = before == i.written(device) && strings.HasSuffix(before, " 0]"); quiet {
			break
		}
	}
	if !quiet {
		i.t.Fatal("the kernel writes all the time")
	}
	s.kill()
	if err := os.Rename(after, i.file); err != nil {
		i.t.Fatal(err)
	}
}

// stopped tells whether all threads of a process have stopped.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of process %d: %v", pid, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_, state, _ := bytes.Cut(text, []byte(") ")) // after the name of the program
		if len(state) == 0 || state[0] != 'T' {
			return false
		}
	}
	return true
}

// device is the loop device of a server's image.
func (i *image) device(s *server) string {
	i.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.cmd.Process.Pid))
	if err != nil {
		i.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		place, source, _ := strings.Cut(line, " - ")
		fields, of := strings.Fields(place), strings.Fields(source)
		if len(fields) > 4 && fields[4] == i.dir && len(of) > 1 {
			return strings.TrimPrefix(of[1], "/dev/")
		}
	}
	i.t.Fatalf("nothing is mounted at %s:\n%s", i.dir, text)
	return ""
}

// written says what was written to a device so far, and what is being written.
func (i *image) written(device string) string {
	i.t.Helper()
	text, err := os.ReadFile(filepath.Join("/sys/block", device, "stat"))
	if err != nil {
		i.t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	return fmt.Sprint(fields[4:9]) // writes: how many, merged, sectors, time; and what is under way
}

// tool runs a tool.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
