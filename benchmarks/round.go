package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// A sample is one measurement of a contestant.
type sample struct {
	PerSecond float64
	P50, P99  time.Duration
	CPU       cost
	Others    float64 // CPUs that other programs used meanwhile
}

// A cost is CPU per operation, in microseconds, by side. Without a worker that side is 0.
type cost struct {
	Server, Worker, Caller float64
}

func (c cost) total() float64 { return c.Server + c.Worker + c.Caller }

// A trio is a contestant's processes for one shape.
type trio struct {
	contestant *contestant
	shape      shape
	server     *process
	worker     *process // nil if there is none
	caller     *process
	samples    []sample
}

// startTrio starts the processes, server first.
func startTrio(c *contestant, s shape, o *options) (t *trio, err error) {
	t = &trio{contestant: c, shape: s}
	defer func() {
		if err != nil {
			t.stop()
		}
	}()
	j := job{System: c.name(), Role: roleServer, Shape: s}
	if t.server, err = spawn(c.binary, j, o.procs); err != nil {
		return t, err
	}
	j.Addr = t.server.addr
	if c.worker != nil {
		j.Role = roleWorker
		if o.workerConnections > 0 && c.System != systemTCPRelay { // a relay joins connections one to one
			j.Shape.Connections = o.workerConnections
		}
		if t.worker, err = spawn(c.binary, j, o.procs); err != nil {
			return t, err
		}
		j.Shape = s
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
func (t *trio) measure(d time.Duration) (sample, error) {
	var none sample
	began, machine := time.Now(), machineCPU()
	before, err := t.mark()
	if err != nil {
		return none, err
	}
	r, err := t.caller.ask(order{Do: "run", For: d})
	if err != nil {
		return none, err
	}
	after, err := t.mark()
	if err != nil {
		return none, err
	}
	machine, elapsed := machineCPU()-machine, time.Since(began)
	n := r.Load.Operations
	if handled := after[1].Handled - before[1].Handled; t.worker != nil && handled != int64(n) {
		return none, fmt.Errorf("%s: %d answers to %d requests: some were lost or repeated", t.contestant.name(), handled, n)
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	own := after[0].CPU - before[0].CPU + after[1].CPU - before[1].CPU + r.CPU
	return sample{
		Others:    max(0, (machine-own).Seconds()) / elapsed.Seconds(),
		PerSecond: float64(n) / r.Load.Elapsed.Seconds(),
		P50:       r.Load.P50,
		P99:       r.Load.P99,
		CPU: cost{
			Server: per(after[0].CPU - before[0].CPU), Worker: per(after[1].CPU - before[1].CPU), Caller: per(r.CPU),
		},
	}, nil
}

// measureQuiet measures again while others disturb, but not for ever.
func (t *trio) measureQuiet(d time.Duration, o *options) (sample, error) {
	end := time.Now().Add(o.patience)
	for {
		s, err := t.measure(d)
		if err != nil || o.quiet <= 0 || s.Others <= o.quiet || time.Now().After(end) {
			return s, err
		}
		time.Sleep(d / 4)
	}
}

// mark asks server and worker what they have used and done so far.
func (t *trio) mark() (r [2]report, err error) {
	for i, p := range []*process{t.server, t.worker} {
		if p == nil {
			continue
		}
		if r[i], err = p.ask(order{Do: "mark"}); err != nil {
			return r, err
		}
	}
	return r, nil
}

// profile begins, or ends, the profiles of all processes.
func (t *trio) profile(do, folder string) error {
	for r, p := range t.processes() {
		name := fmt.Sprintf("%s-%s-%dx%d-%s",
			t.contestant.Case, t.contestant.label(), t.shape.InFlight, t.shape.Connections, r)
		if t.shape.Payload != many.Payload {
			name += fmt.Sprintf("-%dB", t.shape.Payload)
		}
		name = filepath.Join(folder, strings.ReplaceAll(name, "/", "-"))
		if _, err := p.ask(order{Do: do, Profile: name}); err != nil {
			return err
		}
	}
	return nil
}

// measureShape measures all contestants in one shape, in turn.
func measureShape(s shape, all []*contestant, o *options, progress func(string)) (trios []*trio, err error) {
	defer func() {
		for _, t := range trios {
			t.stop()
		}
	}()
	for _, c := range all {
		t, err := startTrio(c, s, o)
		if err != nil {
			return trios, err
		}
		trios = append(trios, t)
		if _, err := t.measure(o.plan.Warmup); err != nil {
			return trios, err
		}
	}
	if o.profile {
		for _, t := range trios {
			if err := t.profile("profile", o.out); err != nil {
				return trios, err
			}
		}
	}
	for round := range o.plan.Rounds {
		progress(fmt.Sprintf("%v: round %d of %d", s, round+1, o.plan.Rounds))
		for i := range trios {
			t := trios[(i+round)%len(trios)] // nobody always follows the same one
			sample, err := t.measureQuiet(o.plan.Slice, o)
			if err != nil {
				return trios, err
			}
			t.samples = append(t.samples, sample)
		}
	}
	if o.profile {
		for _, t := range trios {
			if err := t.profile("profiled", o.out); err != nil {
				return trios, err
			}
		}
	}
	return trios, nil
}
