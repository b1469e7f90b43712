package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// Connections of callers and workers are cut again and again: package client comes back by itself, and every request is
// stored once and answered once.
func TestReconnect(t *testing.T) {
	const callers, requests = 20, 500
	s := startServer(t, "--log-level", "info")
	cutter := startCutter(t, s.addr)
	dial := func() *client.Client {
		c, err := client.New(cutter.addr, client.WithBackoff(client.Backoff{Initial: time.Millisecond, Max: 20 * time.Millisecond}))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	caller, worker := dial(), dial()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	working, stopWork := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() {
		worked <- worker.Work(working, client.WorkConfig{Concurrency: 4},
			func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
				return client.NewAnswer(loadAnswer(d.Payload))
			}, "load")
	}()

	l := newLoad(requests)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range requests {
				id := fmt.Sprintf("%s caller %d request %d", canary, c, i)
				l.note(id, viaClient(ctx, caller, id))
			}
		})
	}
	through := make(chan struct{})
	go func() {
		all.Wait()
		close(through)
	}()
	// As often as a connection takes to be made, and a little more: so that most cuts hit something under way.
	ticker := time.NewTicker(15 * time.Millisecond)
	defer ticker.Stop()
	cuts := 0
	for over := false; !over; {
		select {
		case <-ticker.C:
			cuts += cutter.cut()
		case <-through:
			over = true
		}
	}
	l.check(t, callers*requests)
	t.Logf("%d connections cut, %d requests redelivered", cuts, l.redelivered)
	if cuts < 20 || l.redelivered == 0 {
		t.Error("the cuts were too few, or hit nothing: the test proves nothing")
	}
	eventually(t, "all is settled", func() bool {
		stats := s.statistics(t, "load")
		return stats.Ready+stats.InFlight+stats.Delayed == 0
	})
	if n := s.statistics(t, "load").EnqueuedTotal; n != callers*requests {
		t.Errorf("%d messages were enqueued, want %d", n, callers*requests)
	}
	stopWork()
	if err := <-worked; err != nil {
		t.Errorf("Work() = %v", err)
	}
	for _, c := range []*client.Client{caller, worker} {
		if err := c.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}

// A session that comes back repeats what was not answered: the server knows by the ids that it is the same.
func TestSessionComesBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	frame := &queuepb.SessionRequest{
		Hello: &queuepb.Hello{ProtocolVersion: 1, SessionId: []byte("sixteen bytes id")},
		Operations: []*queuepb.Operation{{Id: 1, Request: &queuepb.Operation_Enqueue{
			Enqueue: &queuepb.EnqueueRequest{Queue: "once", Message: &queuepb.Message{Payload: []byte(canary)}},
		}}},
	}
	var ids []string
	for range 3 {
		ctx, cut := context.WithCancel(t.Context())
		stream, err := s.stub(t).Session(ctx)
		if err == nil {
			err = stream.Send(frame)
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, awaitReceipt(t, stream))
		cut()
	}
	if ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("three messages, %q, want the same one", ids)
	}
	if n := s.statistics(t, "once").Ready; n != 1 {
		t.Errorf("%d messages are stored, want 1", n)
	}
}

// awaitReceipt reads frames up to the receipt, and returns the message's id.
func awaitReceipt(t *testing.T, stream grpc.BidiStreamingClient[queuepb.SessionRequest, queuepb.SessionResponse]) string {
	t.Helper()
	for {
		frame, err := stream.Recv()
		if err != nil {
			t.Fatalf("Recv() = %v", err)
		}
		for _, r := range frame.Results {
			if e := r.GetError(); e != nil {
				t.Fatalf("operation %d: %s", r.Id, e.Reason)
			}
			if receipt := r.GetEnqueue().GetReceipt(); receipt != nil {
				return receipt.MessageId
			}
		}
	}
}

// A cutter stands between clients and a server, and cuts their connections when it is told to.
type cutter struct {
	addr   string
	target string
	listen net.Listener

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func startCutter(t *testing.T, target string) *cutter {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{addr: listen.Addr().String(), target: target, listen: listen}
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		_ = listen.Close() // ends accept
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		in, err := c.listen.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.target)
		if err != nil {
			_ = in.Close() // the client sees a cut, as it should
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, in, out)
		c.mu.Unlock()
		c.wg.Go(func() { c.copy(in, out) })
		c.wg.Go(func() { c.copy(out, in) })
	}
}

// copy copies until either side is cut, and then cuts the other.
func (c *cutter) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from) // its error is the cut
	_ = to.Close()
	_ = from.Close()
}

// cut cuts all connections there are, and returns how many.
func (c *cutter) cut() int {
	c.mu.Lock()
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for _, conn := range conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is on its way is lost, too
		}
		_ = conn.Close()
	}
	return len(conns) / 2
}
