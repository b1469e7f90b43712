package main

import (
	"testing"
	"time"
)

// Every system does a little of every case's work, all of its roles in this process.
func TestSystems(t *testing.T) {
	for _, c := range cases() {
		if c.run != nil {
			continue
		}
		sh := smallest(c)
		for _, s := range c.taking(sh) {
			t.Run(c.Name+"/"+s.System, func(t *testing.T) {
				if s.System == systemRabbitMQ {
					t.Skip("another program, which takes seconds to start")
				}
				doWork(t, c, s, sh)
			})
		}
	}
}

// smallest is a case's first quick shape, cut down to what a test needs.
func smallest(c *benchCase) shape {
	sh := c.Shapes(true)[0]
	sh.InFlight, sh.Connections = min(sh.InFlight, 8), min(sh.Connections, 2)
	sh.Answers, sh.Rate = min(sh.Answers, 20), min(sh.Rate, 500)
	return sh
}

// startRole starts a role that ends with the test, before those that were started earlier.
func startRole(t *testing.T, j job, r role) *part {
	t.Helper()
	j.Role = r
	p, err := startPart(&j)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func doWork(t *testing.T, c *benchCase, s *contestant, sh shape) {
	j := job{Case: c.Name, System: s.System, Shape: sh}
	j.Addr = startRole(t, j, roleServer).addr
	var worker *part
	if s.worker != nil {
		worker = startRole(t, j, roleWorker)
	}
	caller := startRole(t, j, roleCaller)
	l := begin(newSlots(sh), 20*time.Millisecond, sh.Rate)
	r, err := runLoad(caller, l)
	if err != nil {
		t.Fatal(err)
	}
	if worker == nil {
		return
	}
	if c.settles {
		if err := worker.settle(int64(r.Load.Operations)); err != nil {
			t.Fatal(err)
		}
	}
	var none report
	done := worker.mark()
	of := &trio{of: c, contestant: s, shape: sh, worker: new(process)}
	if err := of.checkWorker(&none, &done, r.Load.Operations*sh.answers(), r.Load); err != nil {
		t.Error(err)
	}
}

func TestIdleFiller(t *testing.T) {
	j := job{Case: idleCost().Name, System: systemReplyq, Shape: shape{Connections: 2}}
	j.Addr = startRole(t, j, roleServer).addr
	filler := startRole(t, j, roleFiller)
	for _, task := range []string{"requests", "queues", "sessions"} {
		if _, err := filler.task(task, 20); err != nil {
			t.Errorf("task %s: %v", task, err)
		}
	}
	if _, err := filler.task("none", 1); err == nil {
		t.Error("a task that does not exist is done")
	}
}

func TestDepthFiller(t *testing.T) {
	j := job{Case: depthCost().Name, System: systemReplyq, Shape: shape{Connections: 1}}
	j.Addr = startRole(t, j, roleServer).addr
	filler := startRole(t, j, roleFiller)
	for _, step := range []struct {
		task string
		n    int
	}{{depthEnqueue, 1500}, {depthConsume, 1000}, {depthEnqueue, 10}, {depthConsume, 510}} {
		if _, err := filler.task(step.task, step.n); err != nil {
			t.Fatalf("%s %d: %v", step.task, step.n, err)
		}
	}
}
