package main

import "fmt"

func diskChurn() *benchCase {
	return &benchCase{
		Name: "disk-churn", Unit: "messages",
		About:   "messages that pass through an almost empty queue, and how large the store on disk is meanwhile",
		Systems: []*contestant{{System: systemDisk, server: diskServer, filler: depthFiller}},
		run:     runChurn,
	}
}

// runChurn churns a tenth of all messages at a time, and looks at the store after each.
func runChurn(b *bench, c *benchCase) error {
	s, filler, err := startDisk(b, c)
	if err != nil {
		return err
	}
	defer s.remove()
	defer filler.stop()
	largest, tenth := int64(0), max(b.churn/10, 1)
	var samples []sample
	for done := tenth; done <= 10*tenth; done += tenth {
		b.progress(fmt.Sprintf("%s: %d of %d messages", c.Name, done, 10*tenth))
		before, _ := groupUsage(s.cmd.Process.Pid)
		r, err := filler.task(diskChurned, tenth)
		if err != nil {
			return err
		}
		after, m := groupUsage(s.cmd.Process.Pid)
		size, err := s.size()
		if err != nil {
			return err
		}
		largest = max(largest, size)
		samples = append(samples, sample{PerSecond: float64(tenth) / r.Elapsed.Seconds(), Memory: m,
			CPU: cost{Server: float64((after - before).Nanoseconds()) / 1e3 / float64(tenth)}})
	}
	b.progress("")
	size, err := s.size()
	if err != nil {
		return err
	}
	r := newRecord(&trio{of: c, contestant: c.Systems[0], shape: shape{Connections: 1, Payload: diskPayload}, samples: samples}, b.procs)
	r.What, r.Count, r.Store, r.LargestStore = "churn", 10*tenth, size, largest
	b.records = append(b.records, r)
	b.printf("%d messages of %d B, at most %d of them in the queue: %.0f/s, %.1f µs of the server's CPU each; the store has %.0f MB in\n"+
		"the end and had %.0f MB at most, the server %.0f MB\n", r.Count, diskPayload, churnAhead, r.PerSecond, r.ServerCPU,
		float64(size)/1e6, float64(largest)/1e6, float64(r.Resident)/1e6)
	return nil
}

// startDisk starts a queue-server that can be killed, and a filler beside it.
func startDisk(b *bench, c *benchCase) (*queueServer, *process, error) {
	s, err := newQueueServer()
	if err != nil {
		return nil, nil, err
	}
	if err := s.start(); err != nil {
		s.remove()
		return nil, nil, err
	}
	filler, err := s.filler(b, c)
	if err != nil {
		s.remove()
		return nil, nil, err
	}
	return s, filler, nil
}

// filler starts a filler for the server as it runs.
func (s *queueServer) filler(b *bench, c *benchCase) (*process, error) {
	return spawn("", job{Case: c.Name, System: systemDisk, Role: roleFiller, Addr: s.addr,
		Shape: shape{Connections: 1, Payload: diskPayload}}, b.procs)
}
