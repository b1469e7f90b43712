package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// role is what a process does for a system.
type role string

const (
	roleServer role = "server"
	roleWorker role = "worker"
	roleCaller role = "caller"
	roleFiller role = "filler" // does what its tasks say, e.g. leaves requests waiting
	roleNode   role = "node"   // of a NATS cluster, which a server has
)

// A job is what a child process is told on its command line.
type job struct {
	Case, System string
	Role         role
	Addr         string // of the server; for it, empty
	Shape        shape
	Node         *natsNode `json:",omitempty"` // of a node
}

// What an order asks for.
const (
	doMark     = "mark"     // what was used and done so far
	doRun      = "run"      // of a caller: a load
	doSettle   = "settle"   // of a worker: wait until so many were handled and the server has nothing left
	doMemory   = "memory"   // collect garbage, then tell what is left
	doTask     = "task"     // something of the case's own, so many times
	doProfile  = "profile"  // begin
	doProfiled = "profiled" // end
)

// An order is what the parent asks of a child, one JSON line on its standard input.
type order struct {
	Do      string
	For     time.Duration `json:",omitempty"` // of a run
	N       int64         `json:",omitempty"` // how many, of settle and task
	Task    string        `json:",omitempty"`
	Profile string        `json:",omitempty"` // the file's name without its ending
}

// A report is what a child answers, one JSON line on its standard output. The first comes without an order, when the
// child is ready.
type report struct {
	Addr    string        `json:",omitempty"` // a server's
	CPU     time.Duration `json:",omitempty"` // of a run or a task, or since the process began
	Elapsed time.Duration `json:",omitempty"` // of a task
	Nodes   time.Duration `json:",omitempty"` // of CPU, that of the NATS nodes, where the server has some
	Handled int64         `json:",omitempty"` // answers that a worker has given
	Trace   uint64        `json:",omitempty"` // the sum of the traces of what it was given, where that is asked for
	Memory  memory
	Load    *loadResult `json:",omitempty"`
	Error   string      `json:",omitempty"`
}

// A part is a running role: what its process needs to know of it.
type part struct {
	addr    string
	usage   func() (time.Duration, memory) // of the process that does the work; nil: this one
	nodes   func() time.Duration           // of usage's CPU, that of the NATS nodes; nil: there are none
	handled *atomic.Int64
	trace   *atomic.Uint64
	run     func(*load) error // the caller's
	// settled reports whether the server has nothing left of what the worker was given.
	settled func(ctx context.Context) (bool, error)
	tasks   map[string]func(n int) error
	close   func()
}

// lifetime ends a process whatever happens.
const lifetime = 30 * time.Minute

// runJob is the whole life of a child process.
func runJob(text string) error {
	time.AfterFunc(lifetime, func() { os.Exit(3) })
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	p, err := startPart(&j)
	if err != nil {
		return errors.Join(out.Encode(report{Error: err.Error()}), err)
	}
	defer p.close()
	if err := out.Encode(report{Addr: p.addr}); err != nil {
		return err
	}
	var slots []*slot
	if p.run != nil {
		slots = newSlots(j.Shape)
	}
	return obey(p, slots, j.Shape.Rate, out)
}

func startPart(j *job) (*part, error) {
	start, err := starterOf(j)
	if err != nil {
		return nil, err
	}
	return start(j)
}

// obey carries out orders until there are no more.
func obey(p *part, slots []*slot, rate int, out *json.Encoder) error {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	prof := profile{}
	defer func() { _ = prof.stop() }() // only if the parent has died
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var r report
		var err error
		switch o.Do {
		case doMark:
			r = p.mark()
		case doRun:
			r, err = runLoad(p, begin(slots, o.For, rate))
		case doSettle:
			err = p.settle(o.N)
		case doMemory:
			r.Memory = settledMemory()
		case doTask:
			r, err = p.task(o.Task, int(o.N))
		case doProfile:
			err = prof.start(o.Profile)
		case doProfiled:
			err = prof.stop()
		default:
			err = fmt.Errorf("unknown order %q", o.Do)
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

func (p *part) mark() report {
	r := report{CPU: cpuTime(), Memory: memoryNow()}
	if p.usage != nil {
		r.CPU, r.Memory = p.usage()
	}
	if p.nodes != nil {
		r.Nodes = p.nodes()
	}
	if p.handled != nil {
		r.Handled = p.handled.Load()
	}
	if p.trace != nil {
		r.Trace = p.trace.Load()
	}
	return r
}

func runLoad(p *part, l *load) (report, error) {
	before := cpuTime()
	if err := p.run(l); err != nil {
		return report{}, err
	}
	cpu := cpuTime() - before
	result, err := l.result()
	return report{CPU: cpu, Load: &result}, err
}

// settle waits until n messages were handled since the process began, and none is left in the server.
func (p *part) settle(n int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		done := p.handled.Load() >= n
		var err error
		if done {
			if done, err = p.settled(ctx); done || err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages were handled within %v, or some are left", p.handled.Load(), n, patience)
		case <-time.After(200 * time.Microsecond):
		}
	}
}

func (p *part) task(name string, n int) (report, error) {
	do, ok := p.tasks[name]
	if !ok {
		return report{}, fmt.Errorf("unknown task %q", name)
	}
	cpu, began := cpuTime(), time.Now()
	err := do(n)
	return report{CPU: cpuTime() - cpu, Elapsed: time.Since(began)}, err
}

const (
	// startTimeout bounds how long a server may take to be ready.
	startTimeout = 30 * time.Second
	// connectTimeout bounds how long other roles may.
	connectTimeout = 10 * time.Second
)

func connectContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), connectTimeout)
}

// fatal ends a worker's process where there is nobody to return an error to. The caller then misses its answers, and the
// run fails.
func fatal(err error) {
	fmt.Fprintln(os.Stderr, "benchmarks:", err)
	os.Exit(1)
}
