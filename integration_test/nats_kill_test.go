package integration_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/faultload"
	"github.com/replyq/replyq/internal/history"
)

// The NATS server that leads the stream of logs is killed under load, and comes back; then the one that leads the stream
// that says who serves.
func TestP01KilledNATSLeaders(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	for _, stream := range []string{logStream, claimStream} {
		s.shifts(anyOrder(), func(n *shift) {
			leader := s.nats.Leader(stream)
			what := "the leader of " + stream
			if stream != logStream && leader == s.nats.Leader(logStream) {
				what += ", who leads " + logStream + ", too,"
			}
			f := n.strike(what+" killed", func() { s.nats.Kill(leader) })
			f.backForAll()
			s.awaitLeader(stream, leader)
			n.pass(2 * time.Second)
			f.over(func() { s.nats.Restart(leader) })
			s.awaitNATS()
		})
	}
	s.stop()
}

// All of NATS is lost under load: the replicas say so at once, and confirm nothing. When it is back, they serve again.
func TestP24NATSLost(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	s.shifts(anyOrder(), func(n *shift) {
		f := n.strike("NATS lost", func() { eachNode(s, s.nats.Kill) })
		n.refused(5*time.Second + time.Duration(s.random.Int64N(int64(5*time.Second))))
		f.over(func() { eachNode(s, s.nats.Restart) })
		s.awaitNATS()
	})
	s.stop() // they are the same ones
}

func eachNode(s *service, do func(i int)) {
	for i := range s.nats.Nodes() {
		do(i)
	}
}

// refused asks each replica for a while to store something: each time it has to say that it cannot, and why.
func (n *shift) refused(during time.Duration) {
	n.test.Helper()
	ctx, stop := context.WithTimeout(n.test.Context(), during)
	defer stop()
	slowest, name := make(chan time.Duration), fmt.Sprintf("refused%x.", n.random.Uint64())
	for _, r := range n.replicas {
		stub := r.stub(n.test)
		go func() {
			slowest <- n.refusedBy(ctx, stub, history.ID{Producer: name + r.name})
		}()
	}
	for range n.replicas {
		n.note("a refusal without NATS", <-slowest)
	}
}

// refusedBy asks one replica again and again, and returns how long it took at most to refuse.
func (n *shift) refusedBy(ctx context.Context, stub queuepb.QueueServiceClient, id history.ID) (slowest time.Duration) {
	const limit = 15 * time.Second // only what hangs needs longer
	turn := time.NewTicker(20 * time.Millisecond)
	defer turn.Stop()
	for ; ctx.Err() == nil; <-turn.C {
		id.Counter++
		sent := n.history.Begin(history.Event{What: history.Sent, ID: id, Queue: faultload.Queues()[1]})
		began := time.Now()
		asking, stop := context.WithTimeout(context.WithoutCancel(ctx), limit)
		var trailer metadata.MD
		_, err := stub.Enqueue(asking, &queuepb.EnqueueRequest{
			Queue: faultload.Queues()[1], Message: &queuepb.Message{Payload: history.Payload(id, "answer", 100)},
		}, grpc.Trailer(&trailer))
		stop()
		if ctx.Err() == nil {
			slowest = max(slowest, time.Since(began))
		}
		sent(history.Event{What: history.Unknown})
		if r := refusalOf(n.test, err, trailer); r.Code != codes.Unavailable || r.Reason == "" {
			n.test.Errorf("without NATS an Enqueue had %v, want UNAVAILABLE and a reason", err)
		}
	}
	return slowest
}
