package main

import (
	"os"
	"testing"
	"time"
)

// Servers that have processes of their own start them from this binary.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == roleFlag {
		exit(runJob(os.Args[2]))
	}
	os.Exit(m.Run())
}

// Every system does a little of every case's work, all of its roles in this process.
func TestSystems(t *testing.T) {
	for _, c := range cases() {
		if c.run != nil || c.long {
			continue
		}
		sh := smallest(c)
		for _, s := range c.taking(sh) {
			t.Run(c.Name+"/"+s.System, func(t *testing.T) {
				if s.System == systemRabbitMQ {
					t.Skip("another program, which takes seconds to start")
				}
				doWork(t, c, s, sh, "")
			})
		}
	}
}

// The same, with one service of several replicas and one cluster of NATS nodes for all systems that have these.
func TestClusteredSystems(t *testing.T) {
	s, err := startService()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	owner, err := s.owner()
	if err != nil {
		t.Fatal(err)
	}
	nodes := startRole(t, job{Case: clusterEnqueue().Name, System: systemR3}, roleServer)
	servers := map[string]string{
		systemR3: nodes.addr, systemR3Append: nodes.addr, systemRelayed: s.others(owner)[0].addr,
		systemOwner: owner.addr, systemCluster: owner.addr, systemPipelining: owner.addr,
		systemClustered: owner.addr,
	}
	for _, c := range []*benchCase{clusterCall(), clusterEnqueue()} { // what the last one enqueues stays
		for _, system := range c.Systems {
			t.Run(c.Name+"/"+system.System, func(t *testing.T) { doWork(t, c, system, smallest(c), servers[system.System]) })
		}
	}
	if cpu, m := s.usage(); cpu == 0 || m.Resident == 0 {
		t.Errorf("the service has used %v of CPU and has %d bytes", cpu, m.Resident)
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

// doWork has a system work, with the server at an address or, without one, with a server of its own.
func doWork(t *testing.T, c *benchCase, s *contestant, sh shape, addr string) {
	j := job{Case: c.Name, System: s.System, Shape: sh}
	if j.Addr = addr; addr == "" {
		j.Addr = startRole(t, j, roleServer).addr
	}
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
