package integration_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

var roughSeed = flag.Uint64("rough.seed", 0, "seed of TestRoughCrowd; 0: one by chance") //nolint:gochecknoglobals // a flag

// TestRoughCrowd: many clients at once do everything that the contract has, with whatever handles, leases, ids and figures
// come to hand, theirs and others', sensible and absurd. Each refusal names its reason, each waiter has one end, and the
// server is as it was.
func TestRoughCrowd(t *testing.T) {
	t.Parallel()
	seed := *roughSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("to repeat what each client draws: -rough.seed %d", seed)
	s := startServer(t, "--log-level", "info")
	crowd := &roughCrowd{t: t, admin: queuepb.NewAdminServiceClient(s.dial(t)), asked: make(map[string]int)}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	steps := scaled(t, 400)
	var clients sync.WaitGroup
	for i := range uint64(12) {
		r := &roughClient{roughCrowd: crowd, stub: s.stub(t), Rand: rand.New(rand.NewPCG(seed, i))}
		clients.Go(func() {
			for range steps {
				r.step(ctx)
			}
		})
	}
	clients.Wait()
	crowd.streams.Wait() // each has a deadline, or ends by itself
	t.Logf("%d waiters have their end; answers: %v", crowd.ends.Load(), crowd.asked)
	for _, want := range []string{"OK", "InvalidArgument", "NotFound", "FailedPrecondition"} {
		if crowd.asked[want] == 0 {
			t.Errorf("no answer was %s: the test proves little", want)
		}
	}
	if crowd.ends.Load() < int64(steps)/2 {
		t.Errorf("%d waiters have their end: the test proves little", crowd.ends.Load())
	}
	rest, err := crowd.admin.ListQueues(t.Context(), &queuepb.ListQueuesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range rest.Queues { // nothing holds what the clients have left
		if _, err := crowd.admin.DeleteQueue(t.Context(), &queuepb.DeleteQueueRequest{Name: q.Name, Force: true}); err != nil {
			t.Errorf("DeleteQueue(%s) = %v", q.Name, err)
		}
	}
}

// A roughCrowd has what its clients have found, for all of them.
type roughCrowd struct {
	t       *testing.T
	admin   queuepb.AdminServiceClient
	streams sync.WaitGroup
	ends    atomic.Int64

	mu       sync.Mutex
	handles  []*queuepb.Handle // of all kinds
	messages []string
	asked    map[string]int // answers, by code
}

// step does one thing.
func (r *roughClient) step(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var trailer metadata.MD
	var err error
	what := ""
	switch n := r.IntN(20); n {
	case 0, 1:
		what = "Enqueue"
		var res *queuepb.EnqueueResponse
		if res, err = r.stub.Enqueue(limited, r.enqueue()); err == nil {
			r.noteReceipt(res.Receipt)
		}
	case 2:
		what = "EnqueueBatch"
		b := &queuepb.EnqueueBatchRequest{}
		for range among(r, 0, 1, 3) {
			b.Items = append(b.Items, r.enqueue())
		}
		_, err = r.stub.EnqueueBatch(limited, b)
	case 3, 4, 5, 6:
		r.call(ctx)
		return
	case 7, 8:
		r.consume(ctx)
		return
	case 9:
		r.receive(ctx)
		return
	case 10, 11, 12:
		what = "Reply"
		_, err = r.stub.Reply(limited, r.reply())
	case 13, 14:
		what = "Settle"
		q := &queuepb.SettleRequest{
			Lease: r.handle(leaseKind), Action: usual(r, []queuepb.SettleAction{0, 1, 2, 3, 4}, 5, -1), KeepHandles: r.chance(20),
		}
		if q.Action == queuepb.SettleAction_SETTLE_ACTION_RETRY {
			q.Delay, q.Reason = r.duration(time.Millisecond), usual(r, []string{"", "because"}, strings.Repeat("r", 2000))
		}
		for range among(r, 0, 0, 1, 3) {
			q.Replies = append(q.Replies, r.reply())
		}
		for range among(r, 0, 0, 1, 3) {
			e := r.enqueue()
			e.IdempotencyKey, e.RequireConsumer, e.Pipe = "", false, nil
			q.Messages = append(q.Messages, e)
		}
		_, err = r.stub.Settle(limited, q)
	case 15:
		what = "OpenPipe"
		var res *queuepb.OpenPipeResponse
		if res, err = r.stub.OpenPipe(limited, &queuepb.OpenPipeRequest{Pipe: r.pipe(), Queue: usual(r, []string{"", "a"}, "..")}); err == nil {
			r.keep(res.SendHandle, res.ReceiveHandle)
		}
	case 16:
		what = "Cancel"
		_, err = r.stub.Cancel(limited, &queuepb.CancelRequest{Handle: r.handle(receiveKind), Message: strings.Repeat("ü", r.IntN(2000))})
	case 17:
		what = "Describe or ExtendLeases"
		if r.chance(50) {
			_, err = r.stub.Describe(limited, &queuepb.DescribeRequest{Handle: r.handle(among(r, sendKind, receiveKind, leaseKind))})
		} else {
			_, err = r.stub.ExtendLeases(limited, &queuepb.ExtendLeasesRequest{
				Leases: []*queuepb.Handle{r.handle(leaseKind), r.handle(leaseKind)}, LeaseTime: r.duration(time.Second),
			})
		}
	case 18:
		what = "StopConsuming"
		_, err = r.stub.StopConsuming(limited, &queuepb.StopConsumingRequest{ConsumerId: usual(r, []string{"x", "y"}, "", "!")})
	default:
		what = "administration"
		err = r.administrate(limited)
	}
	r.note(what, err, trailer)
}

func (r *roughClient) noteReceipt(receipt *queuepb.Receipt) {
	r.keep(receipt.ReceiveHandle)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, receipt.MessageId)
}

func (r *roughClient) administrate(ctx context.Context) (err error) {
	queue := r.queue()
	switch r.IntN(8) {
	case 0:
		_, err = r.admin.DeleteQueue(ctx, &queuepb.DeleteQueueRequest{Name: queue, Force: r.chance(50)})
	case 1:
		_, err = r.admin.PurgeQueue(ctx, &queuepb.PurgeQueueRequest{Name: queue, State: usual(r, []queuepb.MessageState{0, 1, 2, 4}, 3, 9)})
	case 2:
		_, err = r.admin.ListMessages(ctx, &queuepb.ListMessagesRequest{Queue: queue, PageSize: usual(r, []uint32{0, 1}, math.MaxUint32), PageToken: usual(r, []string{""}, "x")})
	case 3:
		r.mu.Lock()
		ids := []string{"", "0"}
		if len(r.messages) > 0 {
			ids = append(ids, r.messages[r.IntN(len(r.messages))])
		}
		r.mu.Unlock()
		_, err = r.admin.DeleteMessages(ctx, &queuepb.DeleteMessagesRequest{Queue: queue, MessageIds: ids[r.IntN(len(ids)):]})
	case 4:
		_, err = r.admin.RedriveMessages(ctx, &queuepb.RedriveMessagesRequest{Queue: queue, TargetQueue: usual(r, []string{"", "a", "b"}, "..")})
	case 5:
		_, err = r.admin.EndPipe(ctx, &queuepb.EndPipeRequest{Subject: &queuepb.EndPipeRequest_Handle{Handle: r.handle(among(r, sendKind, receiveKind))}})
	default:
		_, err = r.admin.ListQueues(ctx, &queuepb.ListQueuesRequest{PageSize: among[uint32](r, 0, 1, math.MaxUint32)})
	}
	return err
}

// call calls and waits for its end, or goes away before.
func (r *roughClient) call(ctx context.Context) {
	e := r.enqueue()
	request := &queuepb.CallRequest{
		Queue: e.Queue, Message: e.Message, Pipe: r.pipe(), Delay: e.Delay, DeliverAt: e.DeliverAt, Expiry: e.Expiry, Priority: e.Priority,
		Group: e.Group, IdempotencyKey: e.IdempotencyKey, RequireConsumer: e.RequireConsumer, FromSequence: usual(r, []uint64{0, 0, 0, 2}, math.MaxUint64),
	}
	if r.chance(80) && request.Message != nil {
		request.Message.ReplyTo = nil
	}
	leaves := r.chance(20)
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.stub.Call(ctx, request)
	if err != nil {
		cancel()
		r.t.Errorf("Call() = %v", err)
		return
	}
	watch(r, "Call", cancel, leaves, func() (*queuepb.Receipt, *queuepb.Reply, *queuepb.End, error) {
		e, err := stream.Recv()
		return e.GetReceipt(), e.GetReply(), e.GetEnd(), err
	}, func() metadata.MD { return stream.Trailer() })
}

func (r *roughClient) receive(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.stub.Receive(ctx, &queuepb.ReceiveRequest{Handle: r.handle(receiveKind), FromSequence: usual(r, []uint64{0, 1, 2, 7}, math.MaxUint64)})
	if err != nil {
		cancel()
		r.t.Errorf("Receive() = %v", err)
		return
	}
	watch(r, "Receive", cancel, r.chance(20), func() (*queuepb.Receipt, *queuepb.Reply, *queuepb.End, error) {
		e, err := stream.Recv()
		return nil, e.GetReply(), e.GetEnd(), err
	}, func() metadata.MD { return stream.Trailer() })
}

// watch reads what a waiter gets: replies without gaps, one end at most, and nothing behind it.
func watch(
	r *roughClient, what string, cancel context.CancelFunc, leaves bool,
	next func() (*queuepb.Receipt, *queuepb.Reply, *queuepb.End, error), trailer func() metadata.MD,
) {
	r.streams.Go(func() {
		defer cancel()
		ended, last := false, uint64(0)
		for {
			receipt, reply, end, err := next()
			if err != nil {
				switch {
				case ended || leaves && status.Code(err) == codes.Canceled:
				case errors.Is(err, io.EOF):
					r.t.Errorf("%s: the stream is over, and there was no end", what)
				default:
					r.note(what, err, trailer())
				}
				return
			}
			if ended {
				r.t.Errorf("%s: something came after the end", what)
			}
			if receipt != nil {
				r.noteReceipt(receipt)
			}
			if reply != nil {
				if last != 0 && reply.Sequence != last+1 {
					r.t.Errorf("%s: reply %d after %d", what, reply.Sequence, last)
				}
				last = reply.Sequence
				for _, h := range reply.Handles {
					r.keep(h)
				}
			}
			if end != nil {
				ended = true
				r.ends.Add(1)
			}
			if leaves {
				cancel()
			}
		}
	})
}

// consume takes a few deliveries, and leaves their handles to everybody.
func (r *roughClient) consume(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	queues := []string{r.queue()}
	if r.chance(30) {
		queues = append(queues, "c")
	}
	stream, err := r.stub.Consume(ctx, &queuepb.ConsumeRequest{
		Queues: queues, MaxInFlight: usual(r, []uint32{0, 1, 5, 10_000}, math.MaxUint32), LeaseTime: r.duration(time.Second),
		ConsumerId: usual(r, []string{"", "", "x", "y"}, "!"), DisconnectGrace: r.duration(time.Millisecond, time.Second), MaxDeliveries: among[uint64](r, 0, 1, 7),
		Wait: durationpb.New(100 * time.Millisecond), HeldLeases: among(r, nil, nil, []*queuepb.Handle{r.handle(leaseKind)}),
	})
	if err != nil {
		cancel()
		r.t.Errorf("Consume() = %v", err)
		return
	}
	leaves := time.Duration(r.IntN(2000)) * time.Millisecond
	r.streams.Go(func() {
		defer cancel()
		timer := time.AfterFunc(leaves, cancel)
		defer timer.Stop()
		for {
			e, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) && status.Code(err) != codes.Canceled {
					r.note("Consume", err, stream.Trailer())
				}
				return
			}
			if d := e.GetDelivery(); d != nil {
				r.keep(d.Lease, d.GetMessage().GetReplyTo())
				for _, h := range d.GetMessage().GetHandles() {
					r.keep(h)
				}
			}
		}
	})
}

// note counts an answer. One that is not OK names its reason.
func (r *roughClient) note(what string, err error, trailer metadata.MD) {
	code := status.Code(err)
	r.mu.Lock()
	r.asked[code.String()]++
	r.mu.Unlock()
	reason := ""
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(interface{ GetReason() string }); ok {
			reason += info.GetReason()
		}
	}
	switch code {
	case codes.OK:
	case codes.Internal, codes.Unknown, codes.Unimplemented, codes.DataLoss:
		if strings.Contains(err.Error(), "invalid UTF-8") { // our own stub refuses to send it
			return
		}
		r.t.Errorf("%s: %v", what, err)
	default:
		if reason == "" && len(trailer.Get("replyq-reason")) == 0 && !strings.Contains(err.Error(), "End") {
			r.t.Errorf("%s: %v, without a reason", what, err)
		}
	}
}
