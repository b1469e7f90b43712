package main

import (
	"fmt"
	"time"
)

func diskRecovery() *benchCase {
	return &benchCase{
		Name: "disk-recovery", Unit: "messages",
		About:   "a server with many messages on its disk is killed and started again, until it has delivered one of them",
		Systems: []*contestant{{System: systemDisk, server: diskServer, filler: depthFiller}},
		run:     runRecovery,
	}
}

// diskPayload is the size of the messages in stores on disk.
const diskPayload = 200

// runRecovery kills the server some times, and consumes a message after each.
func runRecovery(b *bench, c *benchCase) error {
	s, filler, err := startDisk(b, c)
	if err != nil {
		return err
	}
	defer s.remove()
	defer func() { filler.stop() }()
	b.progress(fmt.Sprintf("%s: storing %d messages", c.Name, b.stored))
	if _, err := filler.task(depthEnqueue, b.stored); err != nil {
		return err
	}
	size, err := s.size()
	if err != nil {
		return err
	}
	var took []float64
	left := b.stored
	for round := range b.plan.Rounds {
		b.progress(fmt.Sprintf("%s: round %d of %d", c.Name, round+1, b.plan.Rounds))
		filler.stop()
		s.kill()
		began := time.Now()
		if err := s.start(); err != nil {
			return err
		}
		next, err := s.filler(b, c)
		if err != nil {
			return err
		}
		filler = next
		if _, err := filler.task(diskTakeOne, 1); err != nil {
			return err
		}
		took = append(took, time.Since(began).Seconds())
		left--
	}
	if _, err := filler.task(diskCount, left); err != nil {
		return err
	}
	b.progress("")
	r := newRecord(&trio{of: c, contestant: c.Systems[0], shape: shape{Connections: 1, Payload: diskPayload}}, b.procs)
	r.What, r.Count, r.Store, r.Recovery, r.Runs = "recovery", b.stored, size, median(took), len(took)
	b.records = append(b.records, r)
	b.printf("%d messages of %d B, %.0f MB of store: %.2f s from the start to the first delivery, median of %s; none is missing\n",
		b.stored, diskPayload, float64(size)/1e6, r.Recovery, plural(len(took), "kill"))
	return nil
}
