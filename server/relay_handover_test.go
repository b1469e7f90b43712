package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	goclient "github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/server"
)

// A cluster is a broker and several replicas, of which one serves it.
type cluster struct {
	t        *testing.T
	broker   *broker.Broker
	replicas []*replica
}

type replica struct {
	*server.Server
	address string
	served  chan error
}

func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, broker: must[*broker.Broker](t)(broker.Open(broker.Config{}))}
	keys := must[*handles.KeyRing](t)(handles.NewEphemeral())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) //nolint:usetesting // the test's own is over
		cancel()
		for _, r := range c.replicas {
			r.Shutdown(ctx)
			if err := <-r.served; err != nil {
				t.Errorf("Serve() = %v", err)
			}
		}
		if err := c.broker.Close(); err != nil {
			t.Errorf("Broker.Close() = %v", err)
		}
	})
	for i := range n {
		l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
		r := &replica{address: l.Addr().String(), served: make(chan error, 1)}
		r.Server = must[*server.Server](t)(server.New(server.Config{
			Keys: keys, Peers: &server.Peers{Node: fmt.Sprint("r", i)}, Durability: server.OnCluster,
			Journal: func(context.Context) server.JournalFigures { return server.JournalFigures{Batches: uint64(i + 1)} }, //nolint:gosec // few
		}))
		go func() { r.served <- r.Serve(l) }()
		c.replicas = append(c.replicas, r)
	}
	c.move(0)
	return c
}

// move makes a replica the owner. The others hear of it before or after the one that owned.
func (c *cluster) move(owner int) {
	c.replicas[owner].Own(c.broker)
	for i, r := range c.replicas {
		if i != owner {
			r.Relay(c.replicas[owner].address)
		}
	}
}

func (c *cluster) client(i int) *goclient.Client {
	c.t.Helper()
	cl := must[*goclient.Client](c.t)(goclient.New(c.replicas[i].address))
	c.t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func (c *cluster) plain(i int) queuepb.QueueServiceClient {
	c.t.Helper()
	conn := must[*grpc.ClientConn](c.t)(grpc.NewClient(c.replicas[i].address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	c.t.Cleanup(func() { _ = conn.Close() })
	return queuepb.NewQueueServiceClient(conn)
}

// TestOwnerChanges: clients at every replica, also those whose calls are in hand when another one begins to serve, see no
// error, and every call has its answer once.
func TestOwnerChanges(t *testing.T) {
	c := newCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	working, stop := context.WithCancel(ctx)
	var workers, callers sync.WaitGroup
	for i := range c.replicas {
		cl := c.client(i)
		workers.Go(func() {
			err := cl.Work(working, goclient.WorkConfig{Concurrency: 16, DisconnectGrace: 10 * time.Second},
				func(_ context.Context, d *goclient.Delivery) (*goclient.Answer, error) {
					return &goclient.Answer{Payload: append([]byte("re: "), d.Payload...)}, nil
				}, "work")
			if err != nil {
				t.Errorf("Work() = %v", err)
			}
		})
	}
	const each, parallel = 150, 4
	answered := make(chan struct{}, len(c.replicas)*each*parallel)
	for i := range c.replicas {
		cl := c.client(i)
		for p := range parallel {
			callers.Go(func() {
				for n := range each {
					payload := fmt.Sprintf("%d/%d/%d", i, p, n)
					reply, err := cl.Call(ctx, "work", goclient.Message{Payload: []byte(payload)}).One()
					if err != nil || string(reply.Payload) != "re: "+payload {
						t.Errorf("call %s = %q, %v", payload, reply.Payload, err)
					}
					answered <- struct{}{}
				}
			})
		}
	}
	// One that waits all the time.
	late := c.client(1).Call(ctx, "late", goclient.Message{Payload: []byte("x")})
	for move := 1; move <= 6; move++ {
		for range each * parallel / 3 {
			<-answered
		}
		c.move(move % len(c.replicas))
	}
	callers.Wait()
	stop()
	workers.Wait()
	working, stop = context.WithCancel(ctx)
	workers.Go(func() {
		err := c.client(2).Work(working, goclient.WorkConfig{}, func(context.Context, *goclient.Delivery) (*goclient.Answer, error) {
			return &goclient.Answer{Payload: []byte("at last")}, nil
		}, "late")
		if err != nil {
			t.Errorf("Work() = %v", err)
		}
	})
	if reply, err := late.One(); err != nil || string(reply.Payload) != "at last" {
		t.Errorf("the call that waited = %q, %v", reply.Payload, err)
	}
	stop()
	workers.Wait()
}

// TestStatisticsAreTheOwners: whichever replica is asked, and after another one begins to serve, that one's.
func TestStatisticsAreTheOwners(t *testing.T) {
	c := newCluster(t, 3)
	for _, owner := range []int{0, 2} {
		c.move(owner)
		for i := range c.replicas {
			got, err := c.client(i).ServerStatistics(t.Context())
			if want := fmt.Sprint("r", owner); err != nil || got.Node != want || got.Journal.Batches != uint64(owner+1) {
				t.Errorf("replica %d tells %v, %v; want the figures of %s", i, got, err, want)
			}
		}
	}
}

// TestOwnerChangesUnderPlainStreams: they end, so that their clients come back.
func TestOwnerChangesUnderPlainStreams(t *testing.T) {
	c := newCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type consumer = grpc.ServerStreamingClient[queuepb.ConsumeResponse]
	var all []consumer
	for i := range c.replicas {
		s := must[consumer](t)(c.plain(i).Consume(ctx, &queuepb.ConsumeRequest{Queues: []string{"q"}}))
		if e, err := s.Recv(); err != nil || e.GetStarted() == nil {
			t.Fatalf("Consume() = %v, %v, want started", e, err)
		}
		all = append(all, s)
	}
	c.move(2)
	for i, s := range all {
		_, err := s.Recv()
		if got, want := refusalOf(t, err, s.Trailer()), (refusal{codes.Unavailable, "OWNER_CHANGED", ""}); got != want {
			t.Errorf("stream at replica %d = %v, want %v", i, got, want)
		}
	}
	for i := range c.replicas {
		if _, err := c.plain(i).Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("x")}); err != nil {
			t.Errorf("Enqueue at replica %d, afterwards: %v", i, err)
		}
	}
}

// TestOwnerDies: the owner goes without a word. What was under way has an unknown outcome.
func TestOwnerDies(t *testing.T) {
	c := newCluster(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// An owner whose connections can be cut.
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	p := newProxy(l, c.replicas[0].address)
	defer p.close()
	c.replicas[1].Relay(l.Addr().String())
	plain := c.plain(1)
	call := must[grpc.ServerStreamingClient[queuepb.CallResponse]](t)(plain.Call(ctx, &queuepb.CallRequest{Queue: "q", Message: text("x")}))
	if r, err := call.Recv(); err != nil || r.GetReceipt() == nil {
		t.Fatalf("Call() = %v, %v, want a receipt", r, err)
	}
	p.close()
	_, err := call.Recv()
	if got, want := refusalOf(t, err, call.Trailer()), (refusal{codes.Unavailable, "OWNER_UNREACHABLE", ""}); got != want {
		t.Errorf("call = %v, want %v", got, want)
	}
	if got := metadataOf(err)["outcome"]; got != "UNKNOWN" {
		t.Errorf("outcome %q, want UNKNOWN", got)
	}
}

// TestNoRelayOfWhatWasRelayed: two replicas that take each other for the owner do not pass a call to and fro.
func TestNoRelayOfWhatWasRelayed(t *testing.T) {
	c := newCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.replicas[0].Relay(c.replicas[1].address)
	c.replicas[1].Relay(c.replicas[0].address)
	_, err := c.plain(0).Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("x")})
	if st := status.Convert(err); st.Code() != codes.Unavailable || metadataOf(err)["outcome"] != "" {
		t.Errorf("Enqueue() = %v, want UNAVAILABLE, not carried out", err)
	}
	// A call that meets this is repeated once somebody serves.
	done := make(chan error, 1)
	go func() {
		_, err := c.plain(0).Enqueue(ctx, &queuepb.EnqueueRequest{Queue: "q", Message: text("x")})
		done <- err
	}()
	c.replicas[1].Own(c.broker)
	if err := <-done; err != nil {
		t.Errorf("Enqueue() = %v, want it taken by the owner", err)
	}
}

func metadataOf(err error) map[string]string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.Metadata
		}
	}
	return nil
}

// A proxy passes bytes on until it is closed.
type proxy struct {
	l  net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(l net.Listener, to string) *proxy {
	p := &proxy{l: l}
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			p.wg.Go(func() { _, _ = io.Copy(out, in) })
			p.wg.Go(func() { _, _ = io.Copy(in, out) })
		}
	})
	return p
}

func (p *proxy) close() {
	_ = p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
