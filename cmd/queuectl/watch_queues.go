package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/replyq/replyq/api/queuepb"
)

type watchCmd struct {
	Prefix   string        `arg:"" optional:"" help:"Only queues whose names begin so."`
	Interval time.Duration `placeholder:"TIME" default:"1s" help:"Time between two reports (${default}); 100ms to 1h."`
	Reports  int           `placeholder:"N" help:"Stop after so many reports. Default: go on."`
}

// Help is shown by watch --help.
func (watchCmd) Help() string {
	return "First all queues are shown, then those that have changed.\n\n" + jsonHelp("statistics", "deleted")
}

// Run watches queues. Ctrl-C is its usual end.
func (c *watchCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	var shown time.Time
	n := 0
	for report, err := range a.client.WatchQueues(a.ctx, c.Prefix, c.Interval) {
		if err != nil {
			if a.interrupted() {
				return nil
			}
			return err
		}
		at := report.GetTime().AsTime()
		if !at.Equal(shown) { // a large report comes in parts
			if n++; c.Reports > 0 && n > c.Reports {
				return nil
			}
			shown = at
		}
		a.report(report, n == 1)
		if n == c.Reports && len(report.GetQueues()) < watchPart {
			return nil
		}
	}
	return nil
}

// watchPart is how many queues a part of a report has if others follow.
const watchPart = 1000

func (a *app) report(r *queuepb.WatchQueuesResponse, first bool) {
	at := r.GetTime().AsTime()
	if a.JSON {
		for _, s := range r.GetQueues() {
			a.emit(&watchRecord{Type: "statistics", Time: at, figures: newFigures(s)})
		}
		for _, name := range r.GetDeletedQueues() {
			a.emit(&deletedRecord{Type: "deleted", Time: at, Name: name})
		}
		return
	}
	var b strings.Builder
	if first {
		fmt.Fprintf(&b, watchHead, "TIME", "READY", "IN FLIGHT", "DELAYED", "DEAD", "CONSUMERS", "WAITERS", "OLDEST", "IN/S", "ACKED/S", "QUEUE")
	}
	clock := at.Local().Format(time.TimeOnly)
	for _, s := range r.GetQueues() {
		fmt.Fprintf(&b, watchLine, clock, s.GetReady(), s.GetInFlight(), s.GetDelayed(), s.GetDead(), s.GetConsumers(),
			s.GetWaiters(), s.GetOldestAge().AsDuration().Round(time.Second), s.GetEnqueueRate(), s.GetAckRate(), s.GetQueue())
	}
	for _, name := range r.GetDeletedQueues() {
		fmt.Fprintf(&b, "%-8s  %s was deleted\n", clock, name)
	}
	a.print(b.String())
}

// The columns of a report. The queue is last: its name may be long.
const (
	watchHead = "%-8s  %8s  %9s  %8s  %6s  %9s  %8s  %8s  %8s  %8s  %s\n"
	watchLine = "%-8s  %8d  %9d  %8d  %6d  %9d  %8d  %8v  %8.1f  %8.1f  %s\n"
)

type watchRecord struct {
	Type string    `json:"type"`
	Time time.Time `json:"time"`
	*figures
}

type deletedRecord struct {
	Type string    `json:"type"`
	Time time.Time `json:"time"`
	Name string    `json:"name"`
}
