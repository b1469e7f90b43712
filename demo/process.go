package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// moduleRoot is where the repository is.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w (run the demo inside it: make demo)", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func buildServer(ctx context.Context, root, folder string) (string, error) {
	binary := filepath.Join(folder, "queue-server")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/queue-server")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build queue-server: %w\n%s", err, out)
	}
	return binary, nil
}

// process is a child. It ends by end or kill. A role ends by itself when its standard input is closed, so also if this
// process dies; the server ends by SIGTERM.
type process struct {
	name string
	cmd  *exec.Cmd
	ask  func() error  // asks it to end
	done chan struct{} // closed when it has ended; err is set then
	err  error
}

// cast is all processes of the demo.
type cast struct{ processes []*process }

// endTime is how long a process has to end when it is asked to.
const endTime = 5 * time.Second

func (c *cast) start(name string, cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	ask := func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	p := &process{name: name, cmd: cmd, ask: ask, done: make(chan struct{})}
	go func() { // ends with the process, for which end waits
		p.err = cmd.Wait()
		close(p.done)
	}()
	c.processes = append(c.processes, p)
	return p, nil
}

// startServer starts queue-server on a free port and returns its address.
func (c *cast) startServer(binary string) (*process, string, error) {
	cmd := exec.Command(binary, "--listen", "127.0.0.1:0", "--log-format", "json", "--drain-timeout", "3s")
	cmd.Env = withoutSettings(os.Environ())
	log, logWriter := io.Pipe()
	cmd.Stderr = logWriter
	p, err := c.start("queue-server", cmd)
	if err != nil {
		return nil, "", err
	}
	addresses := make(chan string, 1)
	go func() { // ends when the server has
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				addresses <- line.Address
			}
		}
		_, _ = io.Copy(io.Discard, log) // a line too long for the scanner must not stop the server
	}()
	select {
	case address := <-addresses:
		return p, address, nil
	case <-p.done:
		return nil, "", fmt.Errorf("queue-server ended at once: %w", p.err)
	case <-time.After(endTime):
		return nil, "", errors.New("queue-server did not say where it listens")
	}
}

// withoutSettings keeps the caller's own settings for replyq out of the demo.
func withoutSettings(env []string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, "REPLYQ_") {
			out = append(out, v)
		}
	}
	return out
}

// startRole starts this program again, as a worker.
func (c *cast) startRole(address, role, name string) (*process, error) {
	cmd, err := roleCommand(role, address, name)
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := c.start(name, cmd)
	if err == nil {
		p.ask = stdin.Close
	}
	return p, err
}

// askRole runs a role to its end: input on its standard input, result from its standard output.
func askRole(ctx context.Context, address, role, name string, input []byte) ([]byte, error) {
	cmd, err := roleCommand(role, address, name)
	if err != nil {
		return nil, err
	}
	cmd.Stdin = bytes.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // it may have ended
	defer kill()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out.Bytes(), nil
}

func roleCommand(role, address, name string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "role", role, address, name)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// kill ends a process as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// end asks a process to end, and kills it if it does not.
func (p *process) end() error {
	select {
	case <-p.done: // killed on purpose, or a failure that the story has met
		return nil
	default:
	}
	_ = p.ask() // it may have ended
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s ended badly: %w", p.name, p.err)
		}
		return nil
	case <-time.After(endTime):
		p.kill()
		return fmt.Errorf("%s did not end by itself", p.name)
	}
}

// end ends all processes, the last one first.
func (c *cast) end() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].end())
	}
	return errors.Join(errs...)
}
