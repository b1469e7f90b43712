package integration_test

import (
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// bombs are the rows of the catalogue that would take much memory if they were decoded.
func bombs(f *badinput.Fixture) (all []badinput.Row) {
	for _, r := range badinput.Rows(f) {
		switch r.Want.Reason {
		case "TOO_MANY_ELEMENTS", "NESTING_TOO_DEEP", "UNKNOWN_FIELDS_TOO_LARGE":
			all = append(all, r)
		}
	}
	return all
}

// TestP20Bombs: on each face 64 at a time of each request that would be many times as large in memory as on the wire,
// 128 MiB together over eight connections, of which each may have 64 MiB under way. The server stays within its limit, and
// is as before afterwards.
func TestP20Bombs(t *testing.T) {
	t.Parallel()
	const (
		parallel = 64
		limit    = 256 << 20
	)
	s := startTarget(t, "--memory-limit", "256MiB")
	fixture, stop := s.prepare(t)
	s.checkWorks(s.ctx, t)
	conns := make([]*grpc.ClientConn, 8)
	for i := range conns {
		conns[i] = s.dial(t)
	}
	for _, row := range bombs(fixture) {
		var all sync.WaitGroup
		for i := range parallel {
			conn := conns[i%len(conns)]
			all.Go(func() {
				if _, got, err := badinput.Plain(s.ctx, conn, row.Method, row.Request); got != row.Want || err != nil {
					t.Errorf("%s: %v, %v, want %v", row.Name, got, err, row.Want)
				}
			})
			if _, ok := badinput.Operation(1, row.Method, nil); ok {
				all.Go(func() { s.throwIn(t, conn, row) })
			}
		}
		all.Wait()
	}
	s.checkMemory(t, limit)
	s.checkWorks(s.ctx, t)
	stop()
	for _, conn := range append(conns, s.conn) {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	s.checkNothingLeft(t, s.flags...)
}

// throwIn sends a bomb as an operation of a session, which ends it.
func (s *target) throwIn(t *testing.T, conn *grpc.ClientConn, row badinput.Row) {
	session, err := badinput.OpenSession(s.ctx, conn)
	if err != nil {
		t.Error(err)
		return
	}
	if got, err := session.Throw(&row); got != row.Want || err != nil {
		t.Errorf("%s in a session: it has ended with %v, %v, want %v", row.Name, got, err, row.Want)
	}
}

// What a tenant has too much of is refused, with a time to wait, on both faces; what makes room never is, and another
// tenant notices nothing.
func TestPromise8Quotas(t *testing.T) {
	t.Parallel()
	s := startTarget(t, "--tenant-pipes", "3", "--tenant-bytes", "256KiB", "--tenant-sessions", "2")
	stub := queuepb.NewQueueServiceClient(s.conn)
	pipes := make([]*queuepb.OpenPipeResponse, 3)
	for i := range pipes {
		var err error
		if pipes[i], err = stub.OpenPipe(s.ctx, &queuepb.OpenPipeRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	raw := s.rawSession(s.ctx, t, version1())
	s.rawSession(s.ctx, t, version1())
	quota := badinput.Refusal{Code: codes.ResourceExhausted, Reason: "TENANT_QUOTA"}
	third := s.rawSession(s.ctx, t, nil)
	third.send(frameOf(t, &queuepb.SessionRequest{Hello: version1()}))
	if got := third.end(); got != quota {
		t.Errorf("a third session has ended with %v, want %v", got, quota)
	}

	want := badinput.Refusal{Code: codes.ResourceExhausted, Reason: "PIPE_QUOTA", Field: "pipe"}
	if got := s.plain(s.ctx, t, queuepb.QueueService_OpenPipe_FullMethodName, &queuepb.OpenPipeRequest{}); got != want {
		t.Errorf("OpenPipe: %v, want %v", got, want)
	}
	if got := s.plain(s.ctx, t, queuepb.QueueService_Call_FullMethodName, &queuepb.CallRequest{Queue: "q"}); got != want {
		t.Errorf("Call: %v, want %v", got, want)
	}
	raw.do(&queuepb.Operation{Id: 1, Request: &queuepb.Operation_OpenPipe{OpenPipe: &queuepb.OpenPipeRequest{}}})
	if e := raw.result(1).GetError(); e.GetReason() != want.Reason || e.GetRetryAfter() == nil {
		t.Errorf("OpenPipe in a session: %v, want %v and retry_after", e, want)
	}
	if got := s.plain(s.foreign, t, queuepb.QueueService_OpenPipe_FullMethodName, &queuepb.OpenPipeRequest{}); got != (badinput.Refusal{}) {
		t.Errorf("another tenant's OpenPipe: %v", got)
	}
	if got := s.plain(s.ctx, t, queuepb.QueueService_Cancel_FullMethodName, &queuepb.CancelRequest{Handle: pipes[0].ReceiveHandle}); got != (badinput.Refusal{}) {
		t.Errorf("Cancel at the quota: %v", got)
	}
	eventually(t, "there is room for a pipe", func() bool {
		_, err := stub.OpenPipe(s.ctx, &queuepb.OpenPipeRequest{})
		return err == nil
	})

	large := &queuepb.EnqueueRequest{Queue: "stored", Message: &queuepb.Message{Payload: make([]byte, 100<<10)}}
	var got badinput.Refusal
	stored := uint32(0)
	for ; got == (badinput.Refusal{}) && stored < 10; stored++ {
		got = s.plain(s.ctx, t, queuepb.QueueService_Enqueue_FullMethodName, large)
	}
	if got.Field = ""; got != quota {
		t.Errorf("Enqueue at the quota: %v, want %v", got, quota)
	}
	consumer, err := stub.Consume(s.ctx, &queuepb.ConsumeRequest{Queues: []string{"stored"}, MaxInFlight: 10})
	if err != nil {
		t.Fatal(err)
	}
	for left := stored - 1; left > 0; {
		res, err := consumer.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if d := res.GetDelivery(); d != nil {
			if got := s.plain(s.ctx, t, queuepb.QueueService_Settle_FullMethodName, &queuepb.SettleRequest{Lease: d.Lease}); got != (badinput.Refusal{}) {
				t.Errorf("Settle at the quota: %v", got)
			}
			left--
		}
	}
	eventually(t, "there is room for a message", func() bool {
		_, err := stub.Enqueue(s.ctx, large)
		return err == nil
	})
}

// Who sends many forged handles loses the session; nobody else does, not even of the same tenant.
func TestP15Forgers(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	fixture, stop := s.prepare(t)
	defer stop()
	forged := &queuepb.SessionRequest{}
	for id := range uint64(200) {
		token := []byte(fixture.Pipe.Receive.Token)
		copy(token[60:], "AAAAAAAAA")
		token[50] = "ABCDEFGHIJKLMNOP"[id%16]
		forged.Operations = append(forged.Operations, &queuepb.Operation{Id: id + 1, Request: &queuepb.Operation_Describe{
			Describe: &queuepb.DescribeRequest{Handle: &queuepb.Handle{Token: string(token)}},
		}})
	}
	honest := s.rawSession(s.others, t, version1())
	forger := s.rawSession(s.ctx, t, version1())
	forger.send(frameOf(t, forged))
	if got, want := forger.end(), (badinput.Refusal{Code: codes.ResourceExhausted, Reason: "TOO_MANY_FORGERIES"}); got != want {
		t.Errorf("the forger's session has ended with %v, want %v", got, want)
	}
	honest.do(info(1))
	if honest.result(1).GetGetServerInfo() == nil {
		t.Error("another principal's session is not answered")
	}
	s.checkWorks(s.others, t)
}
