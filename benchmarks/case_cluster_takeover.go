package main

import (
	"fmt"
	"slices"
	"time"
)

func clusterTakeover() *benchCase {
	return &benchCase{
		Name: "cluster-takeover", Unit: "messages", long: true,
		About: "the replica that owns everything is stopped in order, or killed: how long it takes until another one has delivered a\n" +
			"stored message, and how long a caller waits at most that calls every 10 ms. Clients are connected to the other replicas",
		Systems: []*contestant{{System: systemCluster, server: clusterServer, filler: depthFiller}},
		run:     runTakeover,
	}
}

// A takeover is a service whose owner goes again and again.
type takeover struct {
	*bench
	of      *benchCase
	service *service
	stored  int
}

func runTakeover(b *bench, c *benchCase) error {
	b.progress(c.Name + ": starting")
	s, err := startService()
	if err != nil {
		return err
	}
	defer s.remove()
	t := &takeover{bench: b, of: c, service: s}
	if err := t.rounds("stop", t.stop); err != nil {
		return err
	}
	if err := t.fill(b.stored); err != nil {
		return err
	}
	if err := t.rounds("stop", t.stop); err != nil {
		return err
	}
	if err := t.rounds("kill", t.kill); err != nil {
		return err
	}
	return t.ask(diskCount, t.stored)
}

// rounds makes the owner go half as often as other cases have rounds, since a replica has to come back each time, and prints
// how long it took. leave is given the owner and returns the seconds until
// a message was delivered; 0 if none was.
func (t *takeover) rounds(what string, leave func(owner *queueServer) (float64, error)) error {
	var took, waits []float64
	stored := t.stored
	for round := range (t.plan.Rounds + 1) / 2 {
		t.progress(fmt.Sprintf("%s: %s, round %d", t.of.Name, what, round+1))
		owner, err := t.service.owner()
		if err != nil {
			return err
		}
		c, err := startSteady(t.service.others(owner))
		if err != nil {
			return err
		}
		delivered, err := leave(owner)
		wait, failed := c.stop()
		if err == nil {
			err = failed
		}
		if err == nil {
			err = owner.start() // again
		}
		if err == nil {
			err = t.service.await()
		}
		if err != nil {
			return err
		}
		took, waits = append(took, delivered), append(waits, wait.Seconds())
	}
	t.progress("")
	t.tell(what, stored, took, waits)
	return nil
}

func (t *takeover) tell(what string, stored int, took, waits []float64) {
	r := newRecord(&trio{of: t.of, contestant: t.of.Systems[0], shape: shape{Connections: 1, Payload: diskPayload}}, t.procs)
	r.What, r.Count, r.Runs = what, stored, len(waits)
	r.Recovery, r.Wait, r.LongestWait = median(took), median(waits), slices.Max(waits)
	t.records = append(t.records, r)
	t.printf("%s with %d messages of %d B: ", what, stored, diskPayload)
	if r.Recovery > 0 {
		t.printf("%.2f s until one was delivered, at most %.2f s; ", r.Recovery, slices.Max(took))
	}
	t.printf("a steady caller waited for %.2f s, at most %.2f s; medians of %s\n", r.Wait, r.LongestWait, plural(len(waits), "round"))
}

// afterwards is how long the steady caller goes on when all seems well.
const afterwards = time.Second

// stop has the owner leave in order.
func (t *takeover) stop(owner *queueServer) (float64, error) {
	if err := owner.stop(); err != nil {
		return 0, err
	}
	<-time.After(afterwards)
	return 0, nil
}

// kill ends the owner as a crash does, and consumes one of the messages.
func (t *takeover) kill(owner *queueServer) (float64, error) {
	filler, err := t.filler(t.service.others(owner)[0])
	if err != nil {
		return 0, err
	}
	defer filler.stop()
	began := time.Now()
	owner.kill()
	if _, err := filler.task(diskTakeOne, 1); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	t.stored--
	<-time.After(afterwards)
	return took, nil
}

func (t *takeover) fill(n int) error {
	t.progress(fmt.Sprintf("%s: storing %d messages", t.of.Name, n))
	t.stored = n
	return t.ask(depthEnqueue, n)
}

// ask has a filler do something at the owner.
func (t *takeover) ask(task string, n int) error {
	owner, err := t.service.owner()
	if err != nil {
		return err
	}
	filler, err := t.filler(owner)
	if err != nil {
		return err
	}
	defer filler.stop()
	_, err = filler.task(task, n)
	return err
}

func (t *takeover) filler(q *queueServer) (*process, error) {
	return spawn("", job{Case: t.of.Name, System: systemCluster, Role: roleFiller, Addr: q.addr,
		Shape: shape{Connections: 1, Payload: diskPayload}}, t.procs)
}
