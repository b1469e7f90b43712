package server_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

func reported(r *queuepb.WatchQueuesResponse) (names []string) {
	for _, q := range r.GetQueues() {
		names = append(names, q.GetQueue())
	}
	return names
}

// TestWatchQueues: first all, then what changed, and what is gone.
func TestWatchQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		for _, name := range []string{"a.1", "a.2", "b"} {
			c.createQueue(name, nil)
		}
		request := &queuepb.WatchQueuesRequest{Prefix: "a.", Interval: seconds(2)}
		stream := must[grpc.ServerStreamingClient[queuepb.WatchQueuesResponse]](t)(c.admin().WatchQueues(c.ctx, request))
		next := func(want ...string) *queuepb.WatchQueuesResponse {
			t.Helper()
			r := must[*queuepb.WatchQueuesResponse](t)(stream.Recv())
			if got := reported(r); !slices.Equal(got, want) {
				t.Errorf("report: got %q, want %q", got, want)
			}
			return r
		}
		first := next("a.1", "a.2")
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "a.2", Delay: seconds(3600)}))
		c.createQueue("a.3", nil)
		second := next("a.2", "a.3")
		if since := second.Time.AsTime().Sub(first.Time.AsTime()); since != 2*time.Second {
			t.Errorf("the second report came %v after the first, want 2s", since)
		}
		if s := second.Queues[0]; s.Delayed != 1 || s.EnqueuedTotal != 1 || s.EnqueueRate != 0.1 {
			t.Errorf("statistics: got %v", s)
		}
		must[*queuepb.DeleteQueueResponse](t)(c.admin().DeleteQueue(c.ctx, &queuepb.DeleteQueueRequest{Name: "a.1"}))
		if r := next(); !slices.Equal(r.DeletedQueues, []string{"a.1"}) {
			t.Errorf("deleted: got %q, want a.1", r.DeletedQueues)
		}
		if r := next(); len(r.DeletedQueues) > 0 {
			t.Errorf("deleted again: got %q", r.DeletedQueues)
		}
		go c.bed.Server.Shutdown(c.ctx)
		for {
			_, err := stream.Recv()
			if err == nil {
				continue
			}
			if got, want := refusalOf(t, err, stream.Trailer()), (refusal{codes.Unavailable, "DRAINING", ""}); got != want {
				t.Errorf("at the server's end: got %v (%v), want %v", got, err, want)
			}
			return
		}
	})
}

// TestWatchManyQueues: a large report comes in parts.
func TestWatchManyQueues(t *testing.T) {
	c := newClient(t)
	const n = 1500
	for i := range n {
		must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: fmt.Sprint("q", i)}))
	}
	stream := must[grpc.ServerStreamingClient[queuepb.WatchQueuesResponse]](t)(c.admin().WatchQueues(c.ctx, &queuepb.WatchQueuesRequest{}))
	first := must[*queuepb.WatchQueuesResponse](t)(stream.Recv())
	second := must[*queuepb.WatchQueuesResponse](t)(stream.Recv())
	all := append(reported(first), reported(second)...)
	slices.Sort(all)
	if len(first.Queues) != 1000 || len(slices.Compact(all)) != n || !first.Time.AsTime().Equal(second.Time.AsTime()) {
		t.Errorf("got parts of %d and %d queues, want 1000 and the others", len(first.Queues), len(second.Queues))
	}
}

func TestBadWatch(t *testing.T) {
	c := newClient(t)
	for _, row := range []struct {
		req  *queuepb.WatchQueuesRequest
		want refusal
	}{
		{&queuepb.WatchQueuesRequest{Prefix: "A"}, refusal{codes.InvalidArgument, "QUEUE_NAME_INVALID", "prefix"}},
		{&queuepb.WatchQueuesRequest{Interval: seconds(0)}, refusal{codes.InvalidArgument, "INTERVAL_INVALID", "interval"}},
		{&queuepb.WatchQueuesRequest{Interval: seconds(3601)}, refusal{codes.InvalidArgument, "INTERVAL_INVALID", "interval"}},
	} {
		stream := must[grpc.ServerStreamingClient[queuepb.WatchQueuesResponse]](t)(c.admin().WatchQueues(c.ctx, row.req))
		_, err := stream.Recv()
		if got := refusalOf(t, err, stream.Trailer()); got != row.want {
			t.Errorf("%v: got %v, want %v", row.req, got, row.want)
		}
	}
}
