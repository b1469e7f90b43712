package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// A sample is one measurement of a contestant.
type sample struct {
	PerSecond float64 // answers
	P50, P99  time.Duration
	CPU       cost
	Nodes     float64 // CPU per answer in microseconds, of the server's, that NATS nodes took
	Memory    memory  // the server's
	Others    float64 // CPUs that other programs used meanwhile
}

// A cost is CPU per answer, in microseconds, by side. Without a worker that side is 0.
type cost struct {
	Server, Worker, Caller float64
}

func (c cost) total() float64 { return c.Server + c.Worker + c.Caller }

// A trio is a contestant's processes for one shape.
type trio struct {
	of         *benchCase
	contestant *contestant
	shape      shape
	server     *process
	worker     *process // nil if there is none
	caller     *process
	samples    []sample
}

// name is the trio in errors and, with -only, on command lines.
func (t *trio) name() string { return t.of.Name + "/" + t.contestant.label() }

// startTrio starts the processes, server first.
func startTrio(of *benchCase, c *contestant, sh shape, o *options) (t *trio, err error) {
	t = &trio{of: of, contestant: c, shape: sh}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", t.name(), err)
			t.stop()
		}
	}()
	j := job{Case: of.Name, System: c.System, Role: roleServer, Shape: sh}
	if t.server, err = spawn(c.binary, j, o.procs); err != nil {
		return t, err
	}
	j.Addr = t.server.addr
	if c.worker != nil {
		j.Role = roleWorker
		if o.workerConnections > 0 && !c.joined {
			j.Shape.Connections = o.workerConnections
		}
		if t.worker, err = spawn(c.binary, j, o.procs); err != nil {
			return t, err
		}
		j.Shape = sh
	}
	j.Role = roleCaller
	t.caller, err = spawn(c.binary, j, o.procs)
	return t, err
}

// processes are those of the trio that run, with what profiles call them.
func (t *trio) processes() map[role]*process {
	all := make(map[role]*process)
	for r, p := range map[role]*process{roleServer: t.server, roleWorker: t.worker, roleCaller: t.caller} {
		if p != nil {
			all[r] = p
		}
	}
	return all
}

// stop ends the processes, caller first.
func (t *trio) stop() {
	for _, p := range []*process{t.caller, t.worker, t.server} {
		if p != nil {
			p.stop()
		}
	}
}

// measure runs a load and returns what it came to.
func (t *trio) measure(d time.Duration) (s sample, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s, %v: %w", t.name(), t.shape, err)
		}
	}()
	began, machine := time.Now(), machineCPU()
	before, err := t.mark()
	if err != nil {
		return s, err
	}
	started := time.Now()
	r, err := t.caller.ask(order{Do: doRun, For: d})
	if err != nil {
		return s, err
	}
	elapsed := r.Load.Elapsed
	if t.of.settles {
		if _, err = t.worker.ask(order{Do: doSettle, N: before.worker.Handled + int64(r.Load.Operations)}); err != nil {
			return s, err
		}
		elapsed = time.Since(started)
	}
	after, err := t.mark()
	if err != nil {
		return s, err
	}
	machine, all := machineCPU()-machine, time.Since(began)
	n := r.Load.Operations * t.shape.answers()
	if err := t.checkWorker(&before.worker, &after.worker, n, r.Load); err != nil {
		return s, err
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	serverCPU, workerCPU := after.server.CPU-before.server.CPU, after.worker.CPU-before.worker.CPU
	return sample{
		Others:    max(0, (machine-serverCPU-workerCPU-r.CPU).Seconds()) / all.Seconds(),
		PerSecond: float64(n) / elapsed.Seconds(),
		P50:       r.Load.P50,
		P99:       r.Load.P99,
		CPU:       cost{Server: per(serverCPU), Worker: per(workerCPU), Caller: per(r.CPU)},
		Nodes:     per(after.server.Nodes - before.server.Nodes),
		Memory:    after.server.Memory,
	}, nil
}

// checkWorker compares what the worker did with what the caller got.
func (t *trio) checkWorker(before, after *report, answers int, l *loadResult) error {
	if t.worker == nil {
		return nil
	}
	if did := after.Handled - before.Handled; did != int64(answers) {
		return fmt.Errorf("the worker gave %d answers, the caller got %d: some were lost or repeated", did, answers)
	}
	if t.of.settles && after.Trace-before.Trace != l.Trace {
		return errors.New("the worker did not get the messages that were enqueued, each of them once")
	}
	return nil
}

// measureQuiet measures again while others disturb, but not for ever.
func (t *trio) measureQuiet(d time.Duration, o *options) (sample, error) {
	end := time.Now().Add(o.patience)
	for {
		s, err := t.measure(d)
		if err != nil || o.quiet <= 0 || s.Others <= o.quiet || time.Now().After(end) {
			return s, err
		}
		<-time.After(d / 4)
	}
}

// marks are what server and worker have used and done so far.
type marks struct{ server, worker report }

func (t *trio) mark() (m marks, err error) {
	if m.server, err = t.server.ask(order{Do: doMark}); err != nil || t.worker == nil {
		return m, err
	}
	m.worker, err = t.worker.ask(order{Do: doMark})
	return m, err
}

// profile begins, or ends, the profiles of all processes.
func (t *trio) profile(do, folder string) error {
	for r, p := range t.processes() {
		name := fmt.Sprintf("%s-%s-%s-%s", t.of.Name, t.contestant.label(), t.shape.short(), r)
		if t.shape.Payload != many.Payload {
			name += fmt.Sprintf("-%dB", t.shape.Payload)
		}
		if t.shape.Rate > 0 {
			name += fmt.Sprintf("-%dps", t.shape.Rate)
		}
		name = filepath.Join(folder, strings.ReplaceAll(name, "/", "-"))
		if _, err := p.ask(order{Do: do, Profile: name}); err != nil {
			return err
		}
	}
	return nil
}
