package server

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// WatchQueues implements the RPC.
func (s *adminService) WatchQueues(
	req *queuepb.WatchQueuesRequest, stream grpc.ServerStreamingServer[queuepb.WatchQueuesResponse],
) error {
	interval, refused := watchInterval(req)
	if refused != nil {
		return refused
	}
	ctx := stream.Context()
	w := &queueWatch{seed: maphash.MakeSeed(), known: make(map[string]watched)}
	tenant, t := identityOf(ctx).Tenant, s.tenureOf(ctx)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		queues := t.broker.QueueStatistics(tenant, req.Prefix)
		if over := t.broker.Over(); over != nil {
			return over
		}
		for _, report := range w.reports(t.now(), queues) {
			if err := stream.Send(report); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-t.stopping:
			return s.over()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func watchInterval(req *queuepb.WatchQueuesRequest) (time.Duration, *broker.Error) {
	if len(req.Prefix) > maxQueueName || !queueChars.all(req.Prefix) {
		return 0, refuse(reasonQueueNameInvalid, "prefix", show(req.Prefix)+" begins no name of a queue: use at most 128 "+
			`characters of a-z, 0-9, ".", "_" and "-"`)
	}
	if req.Interval == nil {
		return defaultWatchInterval, nil
	}
	interval, err := duration(req.Interval, "interval")
	if err != nil {
		return 0, err
	}
	if interval < minWatchInterval || interval > maxWatchInterval {
		return 0, refuse(reasonIntervalInvalid, "interval", "use 100 ms to 1 h, or leave it unset for 1 s")
	}
	return interval, nil
}

// A queueWatch finds out what has changed since the last report. Of each queue it keeps a hash of its figures.
type queueWatch struct {
	seed  maphash.Seed
	known map[string]watched
	round uint64
}

type watched struct {
	figures uint64
	round   uint64 // in which it was seen last
}

// reports are the messages of one report: mostly one, more if many queues have changed.
func (w *queueWatch) reports(now time.Time, queues []broker.QueueInfo) []*queuepb.WatchQueuesResponse {
	w.round++
	changed := queues[:0]
	for _, q := range queues {
		figures := maphash.Comparable(w.seed, q)
		if before, ok := w.known[q.Name]; !ok || before.figures != figures {
			changed = append(changed, q)
		}
		w.known[q.Name] = watched{figures, w.round}
	}
	slices.SortFunc(changed, func(a, b broker.QueueInfo) int { return strings.Compare(a.Name, b.Name) })
	var gone []string
	for name, q := range w.known {
		if q.round != w.round {
			delete(w.known, name)
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	var all []*queuepb.WatchQueuesResponse
	for first := true; first || len(changed) > 0 || len(gone) > 0; first = false {
		report := &queuepb.WatchQueuesResponse{Time: newTime(broker.TimeOf(now))}
		for i := range changed[:min(len(changed), maxPage)] {
			report.Queues = append(report.Queues, statisticsMessage(&changed[i]))
		}
		changed = changed[len(report.Queues):]
		report.DeletedQueues = gone[:min(len(gone), maxPage)]
		gone = gone[len(report.DeletedQueues):]
		all = append(all, report)
	}
	return all
}
