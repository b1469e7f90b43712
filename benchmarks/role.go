package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"syscall"
	"time"
)

// role is what a process does for a system.
type role string

const (
	roleServer role = "server"
	roleWorker role = "worker"
	roleCaller role = "caller"
)

// A job is what a child process is told on its command line.
type job struct {
	System string
	Role   role
	Addr   string // of the server; for it, empty
	Shape  shape
}

// An order is what the parent asks of a child, one JSON line on its standard input.
type order struct {
	// Do is "mark" (tell CPU and counts), "run" (a load, for the caller), "profile" (begin) or "profiled" (end).
	Do      string
	For     time.Duration `json:",omitempty"` // of a run
	Profile string        `json:",omitempty"` // the file's name without its ending
}

// A report is what a child answers, one JSON line on its standard output. The first comes without an order, when the
// child is ready.
type report struct {
	Addr    string        `json:",omitempty"` // a server's
	CPU     time.Duration `json:",omitempty"` // of a run, or since the process began
	Handled int64         `json:",omitempty"` // requests that a worker has answered
	Load    *loadResult   `json:",omitempty"`
	Error   string        `json:",omitempty"`
}

// A part is a running role: what its process needs to know of it.
type part struct {
	addr    string
	handled *atomic.Int64
	run     func(*load) error // the caller's
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
	p, err := start(&j)
	if err != nil {
		return errors.Join(out.Encode(report{Error: err.Error()}), err)
	}
	defer p.close()
	if err := out.Encode(report{Addr: p.addr}); err != nil {
		return err
	}
	var slots []*slot
	if p.run != nil {
		slots = newSlots(j.Shape.InFlight, j.Shape.Payload)
	}
	return obey(p, slots, out)
}

// obey carries out orders until there are no more.
func obey(p *part, slots []*slot, out *json.Encoder) error {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	prof := profile{}
	defer prof.stop()
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
		case "mark":
			r.CPU = cpuTime()
			if p.handled != nil {
				r.Handled = p.handled.Load()
			}
		case "run":
			r, err = runLoad(p, begin(slots, o.For))
		case "profile":
			err = prof.start(o.Profile)
		case "profiled":
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

func runLoad(p *part, l *load) (report, error) {
	before := cpuTime()
	if err := p.run(l); err != nil {
		return report{}, err
	}
	cpu := cpuTime() - before
	result, err := l.result()
	return report{CPU: cpu, Load: &result}, err
}

// cpuTime is the CPU that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// profile writes a CPU profile, and at its end what was allocated.
type profile struct {
	name string
	file *os.File
}

func (p *profile) start(name string) error {
	f, err := os.Create(name + ".cpu.pprof")
	if err != nil {
		return err
	}
	p.name, p.file = name, f
	return pprof.StartCPUProfile(f)
}

func (p *profile) stop() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	f, createErr := os.Create(p.name + ".allocs.pprof")
	if createErr != nil {
		return errors.Join(err, createErr)
	}
	runtime.GC()
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// connectTimeout bounds how long a role may take to be ready.
const connectTimeout = 10 * time.Second

func connectContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), connectTimeout)
}
