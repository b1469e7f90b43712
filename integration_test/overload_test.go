package integration_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// scaled is n, or as many times that as REPLYQ_SOAK says: the tests of overload are short unless it is set.
func scaled(t *testing.T, n int) int {
	t.Helper()
	v := os.Getenv("REPLYQ_SOAK")
	if v == "" {
		return n
	}
	times, err := strconv.Atoi(v)
	if err != nil || times < 1 {
		t.Fatalf("REPLYQ_SOAK=%q: want a number from 1", v)
	}
	return n * times
}

// scaledTo is n, or all with REPLYQ_SOAK.
func scaledTo(t *testing.T, n, all int) int {
	t.Helper()
	if scaled(t, 1) == 1 {
		return n
	}
	return all
}

// peakMemory is the most physical memory that the server has had, in bytes, files of the program included.
func (s *server) peakMemory(t *testing.T) int64 { return s.memory(t, "VmHWM:") }

func (s *server) memory(t *testing.T, field string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Skipf("the memory of a process cannot be read here: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in the status of the server", field)
	return 0
}

// checkMemory holds the server to its limit, and a quarter.
func (s *server) checkMemory(t *testing.T, limit int64) {
	t.Helper()
	peak := s.peakMemory(t)
	t.Logf("at most %d MiB of memory with a limit of %d MiB", peak>>20, limit>>20)
	if os.Getenv("REPLYQ_RACE") == "" && peak > limit*5/4 { // the race detector takes several times as much
		t.Errorf("the server took %d MiB of memory, want at most %d, a quarter more than its limit", peak>>20, limit*5/4>>20)
	}
}

// A crowd makes calls at a given pace, in a session by hand, whatever becomes of those before: an open loop. What is
// refused it does not repeat.
type crowd struct {
	stream  queuepb.QueueService_SessionClient
	payload []byte
	over    chan struct{}

	offered, accepted, refused, answered, ended atomic.Int64
	other                                       atomic.Value // string: an end or error that was not expected

	next uint64
}

// gather opens the session of a crowd, which counts results until the test is over.
func gather(ctx context.Context, t *testing.T, s *server, size int) *crowd {
	t.Helper()
	stream, err := s.stub(t).Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{stream: stream, payload: make([]byte, size), over: make(chan struct{})}
	if err := stream.Send(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1, CreditBytes: 1 << 29}}); err != nil {
		t.Fatal(err)
	}
	go c.count()
	return c
}

func (c *crowd) count() {
	defer close(c.over)
	for {
		frame, err := c.stream.Recv()
		if err != nil {
			if code := status.Code(err); !errors.Is(err, io.EOF) && code != codes.Canceled {
				c.other.CompareAndSwap(nil, err.Error())
			}
			return
		}
		for _, r := range frame.GetResults() {
			switch e := r.GetError(); {
			case e.GetReason() == "SERVER_OVERLOADED" && e.GetRetryAfter().AsDuration() > 0:
				c.refused.Add(1)
			case e != nil:
				c.other.CompareAndSwap(nil, e.String())
			case r.GetCall().GetReceipt() != nil:
				c.accepted.Add(1)
			case r.GetCall().GetReply() != nil:
				c.answered.Add(1)
			case r.GetCall().GetEnd() != nil:
				c.ended.Add(1)
			}
		}
	}
}

// offer makes so many calls a second, for a while, a hundredth of a second's at a time. It returns how many were
// answered meanwhile in a second.
func (c *crowd) offer(t *testing.T, perSecond int, d time.Duration) (answered float64) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	began, before, made := time.Now(), c.answered.Load(), 0
	for time.Since(began) < d {
		<-ticker.C
		for due := int(time.Since(began).Seconds() * float64(perSecond)); made < due; {
			frame := &queuepb.SessionRequest{}
			for ; made < due && len(frame.Operations) < 200; made++ {
				c.next++
				frame.Operations = append(frame.Operations, &queuepb.Operation{Id: c.next, Request: &queuepb.Operation_Call{
					Call: &queuepb.CallRequest{Queue: "work", Message: &queuepb.Message{Payload: c.payload}},
				}})
			}
			c.offered.Add(int64(len(frame.Operations)))
			if err := c.stream.Send(frame); err != nil {
				t.Fatalf("send: %v", err)
			}
		}
	}
	return float64(c.answered.Load()-before) / time.Since(began).Seconds()
}

// TestP20Overload offers ten times as much as the workers can do: what there is no memory for is refused, and the workers get
// as much done as before. Whoever was accepted has an end.
func TestP20Overload(t *testing.T) {
	const limit, size, concurrency = 128 << 20, 16 << 10, 16
	s := startServer(t, "--memory-limit", fmt.Sprint(limit), "--log-level", "info")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	working := make(chan error, 1)
	workers := s.client(t)
	go func() {
		working <- workers.Work(ctx, client.WorkConfig{Concurrency: concurrency, DrainGrace: time.Millisecond},
			func(context.Context, *client.Delivery) (*client.Answer, error) {
				<-time.After(40 * time.Millisecond) // what the work takes: so the machine is not what all wait for
				return &client.Answer{Payload: []byte("done")}, nil
			}, "work")
	}()
	c := gather(ctx, t, s, size)
	best := c.offer(t, 2*concurrency*25, time.Second) // twice what they can do: they have always enough
	for c.refused.Load() == 0 && c.offered.Load() < 2*limit/size {
		c.offer(t, 10*int(best), 200*time.Millisecond)
	}
	compared(t, func(t *testing.T) (string, bool) {
		var enough, tenfold []float64
		for range scaled(t, 5) {
			enough = append(enough, c.offer(t, 2*int(best), 500*time.Millisecond))
			tenfold = append(tenfold, c.offer(t, 10*int(best), 500*time.Millisecond))
		}
		peak, goodput := median(enough), median(tenfold)
		return fmt.Sprintf("with enough to do the workers do %.0f/s, with ten times what they can do offered %.0f/s, want 80 %%",
			peak, goodput), goodput >= 0.8*peak
	})
	t.Logf("%d offered, %d accepted, %d refused, %d answered", c.offered.Load(), c.accepted.Load(), c.refused.Load(), c.answered.Load())
	if c.refused.Load() == 0 {
		t.Error("nothing was refused: the server was not overloaded, and the test proves nothing")
	}
	s.checkMemory(t, limit)
	admin := queuepb.NewAdminServiceClient(s.watcher(t))
	if _, err := admin.PurgeQueue(ctx, &queuepb.PurgeQueueRequest{Name: "work"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything offered is answered, and what was accepted has ended", func() bool {
		return c.accepted.Load()+c.refused.Load() == c.offered.Load() && c.ended.Load() == c.accepted.Load()
	})
	if other := c.other.Load(); other != nil {
		t.Errorf("besides: %v", other)
	}
	stop()
	<-c.over
	if err := <-working; err != nil && !errors.Is(err, client.ErrDraining) {
		t.Errorf("Work() = %v", err)
	}
}

// TestP20LargePayloads sends the largest payloads over many connections at once.
func TestP20LargePayloads(t *testing.T) {
	const limit, size = 256 << 20, 1 << 20
	connections, rounds := 500, scaled(t, 2)
	s := startServer(t, "--memory-limit", fmt.Sprint(limit), "--log-level", "info")
	payload := make([]byte, size)
	var accepted, refused atomic.Int64
	var group sync.WaitGroup
	for range connections {
		stub := s.stub(t)
		group.Go(func() {
			for range rounds {
				_, err := stub.Enqueue(t.Context(), &queuepb.EnqueueRequest{Queue: "large", Message: &queuepb.Message{Payload: payload}})
				switch status.Code(err) {
				case codes.OK:
					accepted.Add(1)
				case codes.ResourceExhausted:
					refused.Add(1)
				default:
					t.Errorf("Enqueue() = %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d of %d accepted, %d refused", accepted.Load(), connections*rounds, refused.Load())
	if accepted.Load() < limit/4/size || refused.Load() == 0 {
		t.Error("want the server filled to its mark, and the rest refused")
	}
	s.checkMemory(t, limit)
}

// TestP20UnreadReplies opens pipes, which is little, and ends each with the largest reply, which nobody reads: by bare
// replies, and in Settles. What there is no room for is refused; ends without much of a reply are not.
func TestP20UnreadReplies(t *testing.T) {
	const limit, size, pipes = 128 << 20, 1 << 20, 400
	s := startServer(t, "--memory-limit", fmt.Sprint(limit), "--log-level", "info")
	stub := s.stub(t)
	consumer, err := stub.Consume(t.Context(), &queuepb.ConsumeRequest{Queues: []string{"work"}, MaxInFlight: pipes})
	if err != nil {
		t.Fatal(err)
	}
	var replies []*queuepb.ReplyRequest
	var leases []*queuepb.Handle
	for len(replies) < pipes {
		pipe, err := stub.OpenPipe(t.Context(), &queuepb.OpenPipeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		replies = append(replies, &queuepb.ReplyRequest{Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{Payload: make([]byte, size)}})
		if _, err := stub.Enqueue(t.Context(), &queuepb.EnqueueRequest{Queue: "work"}); err != nil {
			t.Fatal(err)
		}
	}
	for len(leases) < pipes {
		e, err := consumer.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if d := e.GetDelivery(); d != nil {
			leases = append(leases, d.Lease)
		}
	}
	refused := 0
	for i, reply := range replies {
		settle := &queuepb.SettleRequest{Lease: leases[i], Replies: []*queuepb.ReplyRequest{reply}}
		if i%2 == 1 {
			_, err = stub.Settle(t.Context(), settle)
		} else {
			_, err = stub.Reply(t.Context(), reply)
		}
		switch status.Code(err) {
		case codes.OK:
		case codes.ResourceExhausted:
			refused++
		default:
			t.Fatalf("a last reply: %v", err)
		}
		reply.Body = nil
		if _, err := stub.Settle(t.Context(), settle); err != nil {
			t.Fatalf("an end without a reply: %v", err)
		}
	}
	t.Logf("%d replies were refused", refused)
	s.checkMemory(t, limit)
}

// TestP20StalledMessages begins large messages on many streams and goes no further: what there is of them is bounded, and
// others are served.
func TestP20StalledMessages(t *testing.T) {
	const limit = 256 << 20
	s := startServer(t, "--memory-limit", fmt.Sprint(limit), "--log-level", "info")
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var stalled sync.WaitGroup
	for range 4 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // the server may have done so
		stalled.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		stalled.Go(func() {
			w := bufio.NewWriterSize(conn, 1<<20)
			_, _ = w.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
			_, _ = w.Write(h2Frame(4, 0, 0, nil))
			part := make([]byte, 16<<10)
			for stream := uint32(1); stream < 400; stream += 2 {
				_, _ = w.Write(h2Frame(1, 4, stream, callHeaders("/replyq.v1.QueueService/Enqueue")))
				_, _ = w.Write(h2Frame(0, 0, stream, append([]byte{0, 0, 0x7f, 0, 0}, part[5:]...))) // almost 8 MiB are to come
				for range 62 {
					if _, err := w.Write(h2Frame(0, 0, stream, part)); err != nil {
						return // cut, as it should be
					}
				}
			}
			_ = w.Flush()
		})
	}
	c := s.client(t)
	for range 200 {
		if _, err := c.Enqueue(ctx, "small", client.Message{Payload: []byte("x")}); err != nil {
			t.Fatalf("Enqueue() of another client = %v", err)
		}
	}
	eventually(t, "what is stalled has arrived, or waits", func() bool { return s.memory(t, "VmRSS:") > limit/8 })
	s.checkMemory(t, limit)
	s.kill()
	stalled.Wait()
}

// h2Frame is a frame of HTTP/2.
func h2Frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// callHeaders are the headers of a call, none of them compressed.
func callHeaders(method string) (b []byte) {
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		b = append(append(b, 0, byte(len(h[0]))), h[0]...)
		b = append(append(b, byte(len(h[1]))), h[1]...)
	}
	return b
}

// TestP20HoardedPipes opens pipes and never ends them, up to the quota.
func TestP20HoardedPipes(t *testing.T) {
	quota := scaled(t, 100_000)
	s := startServer(t, "--tenant-pipes", fmt.Sprint(quota), "--log-level", "info")
	before := s.memory(t, "VmRSS:")
	c := s.client(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Duration(scaled(t, 60))*time.Second)
	defer stop()
	var opened atomic.Int64
	var group sync.WaitGroup
	for range 256 {
		group.Go(func() {
			for opened.Add(1) <= int64(quota) {
				if _, err := c.OpenPipe(ctx, client.PipeOptions{}); err != nil {
					t.Errorf("OpenPipe() below the quota = %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	for range 10 {
		_, err := s.stub(t).OpenPipe(ctx, &queuepb.OpenPipeRequest{})
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "PIPE_QUOTA") {
			t.Errorf("OpenPipe() at the quota of %d = %v, want PIPE_QUOTA", quota, err)
		}
	}
	t.Logf("%d pipes; the server has %d bytes more for each", quota, (s.memory(t, "VmRSS:")-before)/int64(quota))
}
