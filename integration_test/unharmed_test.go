package integration_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
)

// What a server must still be like after something bad was sent to it.

// checkWorks makes a call on a new connection, and works on it, with the caller's key.
func (s *server) checkWorks(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	conn := s.dial(t)
	defer func() { _ = conn.Close() }() // fails only if it was closed before
	stub := queuepb.NewQueueServiceClient(conn)
	work, err := stub.Consume(ctx, &queuepb.ConsumeRequest{Queues: []string{"normal"}, MaxDeliveries: 1})
	if err != nil {
		t.Fatal(err)
	}
	call, err := stub.Call(ctx, &queuepb.CallRequest{Queue: "normal", Message: &queuepb.Message{Payload: []byte(canary)}})
	if err != nil {
		t.Fatal(err)
	}
	var delivery *queuepb.Delivery
	for delivery == nil {
		res, err := work.Recv()
		if err != nil {
			t.Fatalf("a normal Consume afterwards: %v", err)
		}
		delivery = res.GetDelivery()
	}
	if _, err := stub.Reply(ctx, &queuepb.ReplyRequest{
		Handle: delivery.Message.ReplyTo, Lease: delivery.Lease, Ack: true,
		Body: &queuepb.ReplyRequest_Payload{Payload: []byte("done")},
	}); err != nil {
		t.Fatalf("a normal Reply afterwards: %v", err)
	}
	var got []string
	for {
		res, err := call.Recv()
		if err != nil {
			break
		}
		switch e := res.Event.(type) {
		case *queuepb.CallResponse_Reply:
			got = append(got, string(e.Reply.Payload))
		case *queuepb.CallResponse_End:
			got = append(got, e.End.Reason.String())
		}
	}
	if want := []string{"done", "END_REASON_OK"}; !slices.Equal(got, want) {
		t.Fatalf("a normal Call afterwards: %v, want %v", got, want)
	}
}

// queues are all queues of the caller's tenant with what they hold, but for the one of checkWorks.
func (s *server) queues(ctx context.Context, t *testing.T) []*queuepb.Queue {
	t.Helper()
	res, err := queuepb.NewAdminServiceClient(s.watcher(t)).ListQueues(ctx, &queuepb.ListQueuesRequest{PageSize: 1000})
	if err != nil {
		t.Fatalf("ListQueues() = %v", err)
	}
	return slices.DeleteFunc(res.Queues, func(q *queuepb.Queue) bool { return q.Name == "normal" })
}

// checkUnchanged compares the queues with those of before. What a cut stream has held goes back a moment after it.
func (s *server) checkUnchanged(ctx context.Context, t *testing.T, before []*queuepb.Queue) {
	t.Helper()
	diff := ""
	defer func() {
		if diff != "" {
			t.Errorf("queues, before and after:\n%s", diff)
		}
	}()
	eventually(t, "the queues are as they were before", func() bool {
		diff = cmp.Diff(before, s.queues(ctx, t), protocmp.Transform(),
			protocmp.IgnoreFields(&queuepb.QueueStatistics{}, "oldest_age", "enqueue_rate", "ack_rate"))
		return diff == ""
	})
}

// as adds a key to the calls of a context.
func as(ctx context.Context, key string) context.Context {
	if key == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// connections is how many sockets the server holds, the listener's included.
func (s *server) connections(t *testing.T) (n int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Skipf("the system does not tell about processes: %v", err)
	}
	for _, f := range files {
		target, err := os.Readlink(dir + "/" + f.Name())
		if err == nil && strings.HasPrefix(target, "socket:") { // one that is gone is no socket
			n++
		}
	}
	return n
}

// checkNothingLeft is for a server whose callers have all gone, as they have when their subtests are over. It ends the
// server with the signal on which Go programs tell what all their goroutines do, and compares
// with a server that was asked for its health and nothing else.
func (s *server) checkNothingLeft(t *testing.T, flags ...string) {
	t.Helper()
	if replicated() {
		return // connections to the replica that serves stay
	}
	fresh := startServer(t, flags...)
	if code, out := runServerCommand(t, "health", "--address", fresh.addr); code != 0 {
		t.Fatalf("queue-server health: exit code %d, %q", code, out)
	}
	if s.watching != nil {
		_ = s.watching.Close() // fails only if it was closed before
	}
	closed := 0 // looks in a row: a connection's socket goes shortly before its goroutine
	eventually(t, "all connections are closed", func() bool {
		if closed++; s.connections(t) != fresh.connections(t) {
			closed = 0
		}
		return closed == 20
	})
	want := fresh.goroutines(t)
	if diff := cmp.Diff(want, s.goroutines(t)); diff != "" {
		t.Errorf("goroutines (-of a server that is new +of this one):\n%s", diff)
	}
}

// goroutines are the goroutines of the server by what started them. It ends the server.
func (s *server) goroutines(t *testing.T) map[string]int {
	t.Helper()
	before := len(s.log.String())
	s.signal(t, syscall.SIGQUIT)
	s.wait(t, patience)
	dump := s.log.String()[before:]
	s.log.cut(before) // a dump is no log
	all := make(map[string]int)
	for _, stack := range strings.Split(dump, "\n\n") {
		stack = strings.TrimSpace(stack)
		if !strings.HasPrefix(stack, "goroutine ") || strings.HasPrefix(stack, "goroutine 0 ") { // 0 is a thread's own
			continue
		}
		starter := "main"
		for line := range strings.Lines(stack) {
			if by, ok := strings.CutPrefix(line, "created by "); ok {
				starter, _, _ = strings.Cut(strings.TrimSpace(by), " in goroutine")
			}
		}
		if !strings.HasPrefix(starter, "runtime.") { // those that collect garbage come with work
			all[starter]++
		}
	}
	if len(all) == 0 {
		t.Fatalf("no goroutine in what the server said when told to quit:\n%s", dump)
	}
	return all
}
