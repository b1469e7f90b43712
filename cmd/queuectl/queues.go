package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

type queuesCmd struct {
	Prefix string `arg:"" optional:"" help:"Only queues whose names begin so."`
}

// Help is shown by queues --help.
func (queuesCmd) Help() string { return jsonHelp("queue") }

// Run lists queues.
func (c *queuesCmd) Run(a *app) error {
	if err := a.connect(); err != nil {
		return err
	}
	queues, err := a.client.Queues(a.ctx, c.Prefix)
	if err != nil {
		return err
	}
	if a.JSON {
		for _, q := range queues {
			a.emit(newQueueRecord(q))
		}
		return nil
	}
	if len(queues) == 0 {
		a.note("no queues")
		return nil
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "QUEUE\tREADY\tIN FLIGHT\tDELAYED\tDEAD\tCONSUMERS\tWAITERS\tOLDEST")
	for _, q := range queues {
		s := q.GetStatistics()
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%v\n", q.GetName(), s.GetReady(), s.GetInFlight(), s.GetDelayed(),
			s.GetDead(), s.GetConsumers(), s.GetWaiters(), s.GetOldestAge().AsDuration().Round(time.Second))
	}
	_ = w.Flush() // a strings.Builder takes everything
	a.print(b.String())
	return nil
}

type queueRecord struct {
	Type string `json:"type"`
	*figures
	CreatedAt *time.Time    `json:"created_at,omitempty"`
	Config    *configRecord `json:"config"`
}

func newQueueRecord(q *queuepb.Queue) *queueRecord {
	return &queueRecord{
		Type: "queue", figures: newFigures(q.GetStatistics()), CreatedAt: wireTime(q.GetCreatedAt()),
		Config: newConfigRecord(q.GetConfig()),
	}
}

// figures are a queue's statistics.
type figures struct {
	Name             string  `json:"name"`
	Ready            uint64  `json:"ready"`
	InFlight         uint64  `json:"in_flight"`
	Delayed          uint64  `json:"delayed"`
	Dead             uint64  `json:"dead"`
	Bytes            uint64  `json:"bytes"`
	Consumers        uint32  `json:"consumers"`
	Waiters          uint64  `json:"waiters"`
	OldestAgeSeconds float64 `json:"oldest_age_seconds"`
	EnqueuedTotal    uint64  `json:"enqueued_total"`
	DeliveredTotal   uint64  `json:"delivered_total"`
	AckedTotal       uint64  `json:"acked_total"`
	FailedTotal      uint64  `json:"failed_total"`
	EnqueueRate      float64 `json:"enqueue_rate"`
	AckRate          float64 `json:"ack_rate"`
}

func newFigures(s *queuepb.QueueStatistics) *figures {
	return &figures{
		Name: s.GetQueue(), Ready: s.GetReady(), InFlight: s.GetInFlight(), Delayed: s.GetDelayed(), Dead: s.GetDead(),
		Bytes: s.GetBytes(), Consumers: s.GetConsumers(), Waiters: s.GetWaiters(),
		OldestAgeSeconds: s.GetOldestAge().AsDuration().Seconds(), EnqueuedTotal: s.GetEnqueuedTotal(),
		DeliveredTotal: s.GetDeliveredTotal(), AckedTotal: s.GetAckedTotal(), FailedTotal: s.GetFailedTotal(),
		EnqueueRate: s.GetEnqueueRate(), AckRate: s.GetAckRate(),
	}
}

type configRecord struct {
	MaxLength        uint64  `json:"max_length"`
	MaxBytes         uint64  `json:"max_bytes"`
	Overflow         string  `json:"overflow"`
	DefaultExpiry    float64 `json:"default_expiry_seconds"`
	LeaseTime        float64 `json:"lease_time_seconds"`
	MaxFailures      uint32  `json:"max_failures"`
	Backoff          float64 `json:"backoff_seconds"`
	MaxBackoff       float64 `json:"max_backoff_seconds"`
	GroupConcurrency uint32  `json:"group_concurrency"`
	Paused           bool    `json:"paused"`
	MaxDead          uint32  `json:"max_dead"`
}

func newConfigRecord(c *queuepb.QueueConfig) *configRecord {
	seconds := func(d *durationpb.Duration) float64 { return d.AsDuration().Seconds() }
	r := &configRecord{
		MaxLength: c.GetMaxLength(), MaxBytes: c.GetMaxBytes(), Overflow: "refuse", DefaultExpiry: seconds(c.GetDefaultExpiry()),
		LeaseTime: seconds(c.GetLeaseTime()), MaxFailures: c.GetMaxFailures(), Backoff: seconds(c.GetBackoff()),
		MaxBackoff: seconds(c.GetMaxBackoff()), GroupConcurrency: c.GetGroupConcurrency(), Paused: c.GetPaused(),
		MaxDead: c.GetMaxDead(),
	}
	if c.GetOverflow() == queuepb.Overflow_OVERFLOW_DROP_OLDEST {
		r.Overflow = "drop-oldest"
	}
	return r
}

func (r *configRecord) text() string {
	limit := func(n uint64) string {
		if n == 0 {
			return "no limit"
		}
		return fmt.Sprint(n)
	}
	period := func(seconds float64) string {
		if seconds == 0 {
			return "none"
		}
		return time.Duration(seconds * float64(time.Second)).String()
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "max length\t%s\nmax bytes\t%s\noverflow\t%s\n", limit(r.MaxLength), limit(r.MaxBytes), r.Overflow)
	fmt.Fprintf(w, "default expiry\t%s\nlease time\t%s\n", period(r.DefaultExpiry), period(r.LeaseTime))
	fmt.Fprintf(w, "max failures\t%d\nbackoff\t%s\nmax backoff\t%s\n", r.MaxFailures, period(r.Backoff), period(r.MaxBackoff))
	fmt.Fprintf(w, "group concurrency\t%s\nmax dead\t%d\n", limit(uint64(r.GroupConcurrency)), r.MaxDead)
	fmt.Fprintf(w, "paused\t%v\n", r.Paused)
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}
