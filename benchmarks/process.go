package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// roleFlag is the first argument of a child process.
const roleFlag = "-role"

// A process is a child, as its parent sees it. It is asked one thing at a time.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *json.Decoder
	addr  string
}

// spawn starts a child and waits until it is ready. procs is its GOMAXPROCS; an empty binary means this one; env is
// added to the environment.
func spawn(binary string, j job, procs int, env ...string) (*process, error) {
	var err error
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, roleFlag, string(text)) //nolint:gosec // it is this program
	cmd.Env = append(append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(procs)), env...)
	cmd.Stderr = os.Stderr
	p := &process{name: string(j.Role) + " of " + j.System, cmd: cmd}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ready, err := p.report(startTimeout + 5*time.Second)
	if err != nil {
		p.stop()
		return nil, err
	}
	p.addr = ready.Addr
	return p, nil
}

// taskPatience is how long a task may take: filling a queue with millions of messages does.
const taskPatience = 5 * time.Minute

// ask gives an order and awaits the report.
func (p *process) ask(o order) (report, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return report{}, err
	}
	if _, err := p.stdin.Write(append(text, '\n')); err != nil {
		return report{}, fmt.Errorf("%s: %w", p.name, err)
	}
	limit := o.For + 2*patience
	if o.Do == doTask || o.Do == doMemory {
		limit = taskPatience
	}
	return p.report(limit)
}

// report reads the next report. A child that is silent for too long is killed.
func (p *process) report(limit time.Duration) (report, error) {
	timer := time.AfterFunc(limit, func() { _ = p.cmd.Process.Kill() }) // an error: it has ended
	defer timer.Stop()
	var r report
	if err := p.out.Decode(&r); err != nil {
		return r, fmt.Errorf("%s ended or was silent: %w", p.name, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s: %s", p.name, r.Error)
	}
	return r, nil
}

// task has the child do something of its case's own.
func (p *process) task(name string, n int) (report, error) {
	return p.ask(order{Do: doTask, Task: name, N: int64(n)})
}

// memory has the child collect its garbage, and returns what it has then.
func (p *process) memory() (memory, error) {
	r, err := p.ask(order{Do: doMemory})
	return r.Memory, err
}

// kill ends the child without waiting for it to clean up.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	p.stop()
}

// stop ends the child: it leaves when its input ends, and is killed if it does not.
func (p *process) stop() {
	_ = p.stdin.Close() // it may have ended
	timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, p.out.Buffered())
	_ = p.cmd.Wait() // how it ended is of no interest: the results are there
}
