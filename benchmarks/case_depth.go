package main

import (
	"fmt"
	"path/filepath"
	"time"
)

func depthCost() *benchCase {
	return &benchCase{
		Name: "depth", Unit: "messages",
		About: "what it costs to enqueue (by batches) and to consume, by how many messages wait in the queue",
		Systems: []*contestant{
			{System: systemReplyq, server: replyqServer, filler: depthFiller},
		},
		run: runDepth,
	}
}

const (
	shallow = 1000
	// depthPayload is small, so that ten million messages fit into a small machine.
	depthPayload = minPayload
	// depthRoom is what a message may need, in bytes, with the garbage beside it.
	depthRoom = 800
)

// runDepth fills two servers to different depths and measures them in turn.
func runDepth(b *bench, c *benchCase) error {
	deep, step := b.depth, 20_000
	if b.quick {
		step = 4_000
	}
	if available := memoryAvailable(); available > 0 && int64(deep)*depthRoom > available {
		b.printf("%d MB of memory are available: ", available>>20)
		deep = int(available / depthRoom)
	}
	b.printf("payloads of %d B; %d messages are enqueued, then as many consumed, in a queue that holds %d or %d; GOGC is 100 in\n"+
		"these servers, so that the deep one needs less memory\n", depthPayload, step, shallow, deep)
	var all []*depth
	defer func() {
		for _, d := range all {
			d.stop()
		}
	}()
	for _, n := range []int{shallow, deep} {
		d, err := startDepth(b, c, n)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	if err := b.profileDepths(all, doProfile); err != nil {
		return err
	}
	for round := range pairs {
		b.progress(fmt.Sprintf("%s: round %d of %d", c.Name, round+1, pairs))
		for i := range all {
			if err := all[(i+round)%len(all)].measure(step); err != nil {
				return err
			}
		}
	}
	b.progress("")
	b.reportDepths(all[0], all[1])
	return b.profileDepths(all, doProfiled)
}

// profileDepths begins, or ends, the profiles of all processes, if they are asked for.
func (b *bench) profileDepths(all []*depth, do string) error {
	if !b.profile {
		return nil
	}
	for _, d := range all {
		for _, side := range []struct {
			role    role
			process *process
		}{{roleServer, d.server}, {roleFiller, d.filler}} {
			name := fmt.Sprintf("%s-%s-%d-%s", d.of.Name, d.contestant.label(), d.messages, side.role)
			if _, err := side.process.ask(order{Do: do, Profile: filepath.Join(b.folder, name)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// A depth is a server whose queue holds so many messages, and what it costs to use it.
type depth struct {
	messages         int
	server, filler   *process
	of               *benchCase
	contestant       *contestant
	enqueue, consume []sample
}

func startDepth(b *bench, c *benchCase, n int) (*depth, error) {
	d := &depth{messages: n, of: c, contestant: c.Systems[0]}
	j := job{Case: c.Name, System: d.contestant.System, Role: roleServer, Shape: shape{Connections: 1}}
	var err error
	if d.server, err = spawn(d.contestant.binary, j, b.procs, "GOGC=100"); err != nil {
		return nil, err
	}
	j.Role, j.Addr = roleFiller, d.server.addr
	if d.filler, err = spawn(d.contestant.binary, j, b.procs); err != nil {
		d.server.kill()
		return nil, err
	}
	b.progress(fmt.Sprintf("%s: filling a queue with %d messages", c.Name, n))
	if _, err := d.filler.task(depthEnqueue, n); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// stop ends the processes at once: giving back millions of messages one by one would take its time.
func (d *depth) stop() {
	d.filler.kill()
	d.server.kill()
}

// measure enqueues n messages and consumes as many.
func (d *depth) measure(n int) error {
	for _, step := range []struct {
		task    string
		samples *[]sample
	}{{depthEnqueue, &d.enqueue}, {depthConsume, &d.consume}} {
		before, err := d.server.ask(order{Do: doMark})
		if err != nil {
			return err
		}
		r, err := d.filler.task(step.task, n)
		if err != nil {
			return err
		}
		after, err := d.server.ask(order{Do: doMark})
		if err != nil {
			return err
		}
		per := func(t time.Duration) float64 { return float64(t.Nanoseconds()) / 1e3 / float64(n) }
		*step.samples = append(*step.samples, sample{
			PerSecond: float64(n) / r.Elapsed.Seconds(), Memory: after.Memory,
			CPU: cost{Server: per(after.CPU - before.CPU), Caller: per(r.CPU)},
		})
	}
	return nil
}

// reportDepths compares two depths.
func (b *bench) reportDepths(a, z *depth) {
	for _, step := range []struct {
		name string
		of   func(*depth) []sample
	}{
		{"enqueue", func(d *depth) []sample { return d.enqueue }},
		{"consume", func(d *depth) []sample { return d.consume }},
	} {
		v := compare(step.of(z), step.of(a))
		for _, d := range []*depth{a, z} {
			r := newRecord(&trio{of: d.of, contestant: d.contestant, shape: shape{Connections: 1, Payload: depthPayload},
				samples: step.of(d)}, b.procs)
			r.What, r.Count = step.name, d.messages
			if d == z {
				r.Ratios[fmt.Sprintf("%s/%d", d.of.Name, a.messages)] = v
			}
			b.records = append(b.records, r)
			b.printf("%s at %8d: %.0f messages/s, %.2f µs of the server's CPU each; the server has %.0f MB\n",
				step.name, d.messages, r.PerSecond, r.ServerCPU, float64(r.Resident)/1e6)
		}
		// Time per message is the reciprocal of the rate.
		b.printf("%s, %d : %d = %s of the time, %s of the server's CPU; %s\n", step.name, z.messages, a.messages,
			withInterval(1/v.PerSecond, 1/v.PerSecondHigh, 1/v.PerSecondLow),
			withInterval(v.ServerCPU, v.ServerCPULow, v.ServerCPUHigh), plural(v.Pairs, "pair"))
	}
}
