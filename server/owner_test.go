package server_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/journal"
)

// TestOwnerChanged: who waits is told that another replica serves now and that the outcome is unknown, and so is who comes
// later, on plain RPCs and on sessions; those that wait for nothing in particular too.
func TestOwnerChanged(t *testing.T) {
	want := refusal{codes.Unavailable, "OWNER_CHANGED", ""}
	for how, change := range map[string]func(*client, *journal.Faulty){
		"deposed": func(c *client, d *journal.Faulty) {
			d.Fail(fmt.Errorf("epoch 8 was seen: %w", journal.ErrDeposed))
			_, _ = c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q"}) // which finds it out
		},
		"gives way": func(c *client, _ *journal.Faulty) {
			if err := c.bed.Broker.Leave(c.ctx); err != nil {
				c.t.Errorf("Leave: %v", err)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			onDisk(t, func(t *testing.T, c *client, d *journal.Faulty) {
				idle, busy := c.openSession(&queuepb.Hello{}), c.openSession(&queuepb.Hello{}, opConsume(1, "a", 10))
				busy.next(1)
				consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"q"}, MaxInFlight: 10})
				watch := must[grpc.ServerStreamingClient[queuepb.WatchQueuesResponse]](t)(c.admin().WatchQueues(c.ctx, &queuepb.WatchQueuesRequest{}))
				synctest.Wait()
				change(c, d)
				for name, s := range map[string]*session{"idle": idle, "busy": busy} {
					if got := s.end(); got != want {
						t.Errorf("the %s session ended with %v, want %v", name, got, want)
					}
				}
				_, err := consumer.Recv()
				if got := refusalOf(t, err, consumer.Trailer()); got != want {
					t.Errorf("Consume = %v, want %v", got, want)
				}
				for err = nil; err == nil; {
					_, err = watch.Recv()
				}
				if got := refusalOf(t, err, watch.Trailer()); got != want {
					t.Errorf("WatchQueues = %v, want %v", got, want)
				}
				var trailer metadata.MD
				_, err = c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q"}, grpc.Trailer(&trailer))
				if got := refusalOf(t, err, trailer); got != want {
					t.Errorf("Enqueue = %v, want %v", got, want)
				}
				if outcome, retry := outcomeOf(err); outcome != "UNKNOWN" || retry != 100*time.Millisecond {
					t.Errorf("outcome %q, retry after %v, want UNKNOWN after 100 ms", outcome, retry)
				}
				stream, err := c.Session(c.ctx)
				if err == nil {
					_ = stream.Send(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1}}) // its end tells
					_, err = stream.Recv()
				}
				if got := refusalOf(t, err, stream.Trailer()); got != want {
					t.Errorf("a new session = %v, want %v", got, want)
				}
			})
		})
	}
}
