package broker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

func TestRates(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p, w := b.attach("p"), b.attach("w")
		op := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1000, LeaseTime: 12 * time.Hour})
		expect[*broker.Started](w, op)
		// One event is a tenth of an event per second, and a window begins somewhere between two.
		check := func(when string, enqueued, acked float64) {
			t.Helper()
			q := p.queue("q")
			if d := q.EnqueueRate - enqueued; d < -0.11 || d > 0.11 {
				t.Errorf("%s: enqueued %v per second, want %v", when, q.EnqueueRate, enqueued)
			}
			if d := q.AckRate - acked; d < -0.11 || d > 0.11 {
				t.Errorf("%s: acked %v per second, want %v", when, q.AckRate, acked)
			}
		}
		check("before", 0, 0)
		for range 50 {
			p.enqueue("q", handles.Handle{})
			w.delivered(op)
		}
		check("a burst", 5, 0)
		<-time.After(9900 * time.Millisecond)
		check("the burst nearly ten seconds ago", 5, 0)
		<-time.After(2 * time.Second)
		check("the burst is over", 0, 0)
		for i := range 300 { // for thirty seconds, ten a second
			p.enqueue("q", handles.Handle{})
			d := w.delivered(op)
			if i%2 == 0 {
				w.settle(d.Delivery, broker.Ack)
			}
			<-time.After(100 * time.Millisecond)
			if i > 100 {
				check("steady", 10, 5)
			}
		}
		<-time.After(5 * time.Second)
		check("five seconds later", 5, 2.5)
		<-time.After(time.Hour)
		check("long after", 0, 0)
	})
}

func TestQueueStatistics(t *testing.T) {
	eachPlacement(t, func(t *testing.T, b *bed) {
		p := b.attach("p")
		for _, q := range []string{"a.1", "a.2", "b"} {
			p.call(q, "m", broker.PipeOptions{})
		}
		p.removes(&broker.DeleteQueue{Queue: "a.2", Force: true}, 1)
		<-time.After(time.Minute)
		names := func(all []broker.QueueInfo) (names []string) {
			for _, q := range all {
				names = append(names, q.Name)
				if q.Ready != 1 || q.Waiters != 1 || q.OldestAge != time.Minute {
					t.Errorf("got %+v", q)
				}
			}
			slices.Sort(names)
			return names
		}
		if got := names(b.b.QueueStatistics(1, "")); !slices.Equal(got, []string{"a.1", "b"}) {
			t.Errorf("all: got %q", got)
		}
		if got := names(b.b.QueueStatistics(1, "a")); !slices.Equal(got, []string{"a.1"}) {
			t.Errorf("prefix a: got %q", got)
		}
		if got := b.b.QueueStatistics(2, ""); len(got) != 0 {
			t.Errorf("another tenant: got %+v", got)
		}
	})
}
