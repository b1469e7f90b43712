package main

import (
	"fmt"
	"runtime"
)

func idleCost() *benchCase {
	return &benchCase{
		Name:  "idle-cost",
		About: "what waits and does nothing: bytes of the server, above payloads, and latency beside it",
		Systems: []*contestant{
			{System: systemReplyq, server: replyqServer, worker: replyqWorker, caller: replyqCaller, filler: idleFiller},
		},
		run: runIdleCost,
	}
}

// idleSessions is how many sessions the waiting requests come through.
const idleSessions = 8

// runIdleCost fills one server, compares its latency with that of an empty one, and then fills the other with queues and
// sessions.
func runIdleCost(b *bench, c *benchCase) error {
	system := c.Systems[0]
	full, err := startTrio(c, system, one, b.options)
	if err != nil {
		return err
	}
	defer full.stop()
	empty, err := startTrio(c, system, one, b.options)
	if err != nil {
		return err
	}
	defer empty.stop()
	for _, t := range []*trio{full, empty} {
		if _, err := t.measure(b.plan.Warmup); err != nil {
			return err
		}
	}
	sessions, queues := 1000, 100_000
	if b.quick {
		sessions, queues = 200, 10_000
	}
	if err := waitingRequests(b, full, empty); err != nil {
		return err
	}
	filler, err := startFiller(b, empty, 1)
	if err != nil {
		return err
	}
	defer filler.kill() // its sessions need not be closed one by one
	for _, what := range []idleThing{
		{name: "queue", task: "queues", count: queues},
		{name: "session", task: "sessions", count: sessions},
	} {
		if err := b.weigh(empty, filler, what); err != nil {
			return err
		}
	}
	return nil
}

// waitingRequests weighs requests that wait, and measures the latency of others beside them.
func waitingRequests(b *bench, full, empty *trio) error {
	filler, err := startFiller(b, full, idleSessions)
	if err != nil {
		return err
	}
	defer filler.kill() // likewise
	what := idleThing{name: "waiting request", task: "requests", count: b.waiting, payload: idlePayload}
	if err := b.weigh(full, filler, what); err != nil {
		return err
	}
	if err := b.measureRounds([]*trio{full, empty}); err != nil {
		return err
	}
	b.progress("")
	v := compare(full.samples, empty.samples)
	for _, t := range []*trio{empty, full} {
		r := newRecord(t, b.procs)
		r.What = "request beside none that waits"
		if t == full {
			r.What, r.Count = "request beside those that wait", b.waiting
			r.Ratios[full.of.Name+"/empty"] = v
		}
		b.records = append(b.records, r)
	}
	b.printf("p50 of a request on another queue: %s µs beside %d that wait, %s µs on an empty server: %s times; %s\n",
		decimals(median(figures(full.samples, p50))), b.waiting, decimals(median(figures(empty.samples, p50))),
		withInterval(v.P50, v.P50Low, v.P50High), plural(v.Pairs, "pair"))
	return nil
}

// startFiller starts a process that fills a trio's server.
func startFiller(b *bench, t *trio, connections int) (*process, error) {
	sh := shape{Connections: connections}
	j := job{Case: t.of.Name, System: t.contestant.System, Role: roleFiller, Addr: t.server.addr, Shape: sh}
	return spawn(t.contestant.binary, j, b.procs)
}

// An idleThing is something whose memory is measured.
type idleThing struct {
	name, task string
	count      int
	payload    int
}

// weigh tells what the server's memory grows by with so many things.
func (b *bench) weigh(t *trio, filler *process, what idleThing) error {
	b.progress(fmt.Sprintf("%s: %d of %s", t.of.Name, what.count, what.name))
	before, err := t.server.memory()
	if err != nil {
		return err
	}
	if _, err := filler.task(what.task, what.count); err != nil {
		return err
	}
	after, err := t.server.memory()
	if err != nil {
		return err
	}
	b.progress("")
	each := func(before, after int64) float64 {
		return float64(after-before)/float64(what.count) - float64(what.payload)
	}
	r := record{
		Case: t.of.Name, System: t.contestant.label(), What: what.name, Count: what.count, Payload: what.payload,
		HeapEach: each(before.Heap, after.Heap), ResidentEach: each(before.Resident, after.Resident),
		HeldEach: each(before.Resident, after.Held),
		Heap:     after.Heap, Resident: after.Resident, Runs: 1, Procs: b.procs, Go: runtime.Version(),
	}
	b.records = append(b.records, r)
	b.printf("each of %d %ss: %.0f B of live heap, %.0f B resident (%.0f B before free memory went back to the system)",
		what.count, what.name, r.HeapEach, r.ResidentEach, r.HeldEach)
	if what.payload > 0 {
		b.printf(", above the %d B of its payload", what.payload)
	}
	b.printf("\n")
	return nil
}
