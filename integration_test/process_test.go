package integration_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for anything that should come at once. It is generous: two cores start many
// interpreters here.
const patience = 30 * time.Second

// A process is a child in a process group of its own. Its standard output is lines of JSON, one event each; its
// standard error is its log.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *lockedBuffer

	exited chan struct{} // closed when it is gone and all it wrote has been read
	err    error         // of Wait; once exited

	mu      sync.Mutex
	events  []event
	taken   int           // how many of events the test has taken
	changed chan struct{} // has room for one: events or exited have changed
}

// start starts a program. It is killed when the test is over; its output is shown if the test fails.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{
		name: name, cmd: cmd, log: &lockedBuffer{},
		exited: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = p.log
	cmd.WaitDelay = patience // for a grandchild that holds the log open
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	children.add(p)
	go p.collect(out)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s: %v\n%s%s", p.name, p.err, p.show(), p.log.String())
		}
	})
	return p
}

// collect reads events until the output ends, and then waits for the process.
func (p *process) collect(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Event: "no JSON", Message: lines.Text()}
		}
		p.mu.Lock()
		p.events = append(p.events, e)
		p.mu.Unlock()
		p.wake()
	}
	p.err = p.cmd.Wait()
	children.remove(p) // before anybody knows: the last test may be over then
	close(p.exited)
	p.wake()
}

func (p *process) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// next returns the next event, whatever it is.
func (p *process) next(t *testing.T) event {
	t.Helper()
	return p.await(t, "")
}

// await returns the next event of a kind, and drops those before it. Only one goroutine at a time may await.
func (p *process) await(t *testing.T, kind string) event {
	t.Helper()
	deadline := time.After(patience)
	for {
		over := p.over()
		if e, ok := p.take(kind); ok {
			return e
		}
		if over {
			t.Fatalf("%s has ended (%v) without event %q", p.name, p.err, kind)
		}
		select {
		case <-p.changed:
		case <-deadline:
			t.Fatalf("%s: no event %q within %v", p.name, kind, patience)
		}
	}
}

// take takes events up to the next one of a kind.
func (p *process) take(kind string) (event, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.taken < len(p.events) {
		e := p.events[p.taken]
		p.taken++
		if kind == "" || e.Event == kind {
			return e, true
		}
	}
	return event{}, false
}

func (p *process) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// all waits for the program's end, which must be a good one, and returns the events that were not taken.
func (p *process) all(t *testing.T) []event {
	t.Helper()
	if code := p.wait(t, patience); code != 0 {
		t.Fatalf("%s: exit code %d", p.name, code)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := p.events[p.taken:]
	p.taken = len(p.events)
	return rest
}

// wait waits for the end and returns the exit code, -1 if a signal ended it.
func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		t.Fatalf("%s does not end within %v", p.name, limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// signal sends a signal to the program alone.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s: %v", p.name, err)
	}
}

// kill ends the process group as SIGKILL does, and waits until it is gone. It may be called again.
func (p *process) kill() {
	if !p.over() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // fails only for a group that is gone
	}
	<-p.exited
}

// show prints the events, for a test that has failed.
func (p *process) show() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, e := range p.events {
		line, _ := json.Marshal(e) // an event can be encoded
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// children are the processes that run.
var children registry

type registry struct {
	mu  sync.Mutex
	all map[*process]bool
}

func (r *registry) add(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[*process]bool)
	}
	r.all[p] = true
}

func (r *registry) remove(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A group that lives on without its leader is a process left behind.
	if err := syscall.Kill(-p.cmd.Process.Pid, 0); errors.Is(err, syscall.ESRCH) {
		delete(r.all, p)
	}
}

// killAll kills what is left, and returns the names.
func (r *registry) killAll() (left []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.all {
		left = append(left, p.name)
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // fails only for a group that is gone
	}
	return left
}

// lockedBuffer is a buffer that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// cut takes away what was written after the first n bytes.
func (b *lockedBuffer) cut(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Truncate(n)
}

// eventually waits until a condition holds. It is for what nobody announces; it looks every few milliseconds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
