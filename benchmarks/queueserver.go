package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// queue-server itself: built from this checkout, and started with nothing but a data directory, or as one of several replicas.

// A queueServer is a running one.
type queueServer struct {
	folder string // with the binary, and the data directory unless it is somebody else's
	flags  []string
	addr   string
	cmd    *exec.Cmd
	log    chan string // its lines
}

// diskServer is the role.
func diskServer(*job) (*part, error) {
	s, err := newQueueServer()
	if err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.remove()
		return nil, err
	}
	return &part{
		addr:  s.addr,
		usage: func() (time.Duration, memory) { return groupUsage(s.cmd.Process.Pid) },
		close: s.remove,
	}, nil
}

// newQueueServer builds the server, unless there is one beside this program, and makes a data directory for it.
func newQueueServer() (*queueServer, error) {
	folder, err := os.MkdirTemp("", "replyq-bench-disk-")
	if err != nil {
		return nil, err
	}
	s := &queueServer{folder: folder}
	s.flags = []string{"--data-dir", s.store()}
	if self, err := os.Executable(); err == nil && os.Link(filepath.Join(filepath.Dir(self), "queue-server"), s.binary()) == nil {
		return s, nil
	}
	build := exec.Command("go", "build", "-o", s.binary(), "./cmd/queue-server")
	build.Dir = ".." // in its own module: this one has no sums of what only the server needs
	build.Stderr = os.Stderr
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := build.Run(); err != nil {
		s.remove()
		return nil, fmt.Errorf("build queue-server (the benchmarks have to run in their own folder): %w", err)
	}
	return s, nil
}

func (s *queueServer) binary() string { return filepath.Join(s.folder, "queue-server") }
func (s *queueServer) store() string  { return filepath.Join(s.folder, "store") }

// start starts it, and returns when it serves.
func (s *queueServer) start() error {
	s.cmd = exec.Command(s.binary(), append([]string{"--listen", "127.0.0.1:0", "--log-format", "json"}, s.flags...)...) //nolint:gosec // it is ours
	s.cmd.SysProcAttr = ownGroup()
	out, err := s.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.log = make(chan string, 1024)
	go readLines(out, s.log)
	end := time.After(taskPatience)
	last := ""
	for {
		select {
		case line, ok := <-s.log:
			var entry struct{ Msg, Address string }
			switch {
			case !ok:
				s.kill()
				return fmt.Errorf("queue-server ended: %s", last)
			case json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving":
				s.addr = entry.Address
				return nil
			}
			last = line
		case <-end:
			s.kill()
			return errors.New("queue-server is not ready")
		}
	}
}

// readLines reads a log to its end. When nobody takes its lines they are dropped.
func readLines(r io.Reader, lines chan<- string) {
	defer close(lines)
	for in := bufio.NewScanner(r); in.Scan(); {
		select {
		case lines <- strings.Clone(in.Text()):
		default:
		}
	}
}

// kill ends it as a crash does.
func (s *queueServer) kill() {
	killGroup(s.cmd.Process.Pid)
	for range s.log { // to its end, before Wait closes the pipe
	}
	_ = s.cmd.Wait() // it was killed
}

// stop ends it in order, and returns when it has ended.
func (s *queueServer) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for range s.log { // to its end, before Wait closes the pipe
	}
	return s.cmd.Wait()
}

func (s *queueServer) runs() bool {
	return s.cmd != nil && s.cmd.Process != nil && s.cmd.ProcessState == nil
}

// remove ends it, if it runs, and removes its files.
func (s *queueServer) remove() {
	if s.runs() {
		s.kill()
	}
	_ = os.RemoveAll(s.folder) // the system cleans up too
}

// size is what the files of the store take.
func (s *queueServer) size() (total int64, err error) {
	err = filepath.WalkDir(s.store(), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return ignoreGone(err)
	})
	return total, err
}

// ignoreGone forgives that a file is removed while it is looked at.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
