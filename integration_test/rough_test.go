package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

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

// A roughClient is one connection with its own luck.
type roughClient struct {
	*roughCrowd
	*rand.Rand
	stub queuepb.QueueServiceClient
}

func (r *roughClient) chance(percent int) bool { return r.IntN(100) < percent }

// odd reports whether something absurd is to be drawn, which is mostly refused.
func (r *roughClient) odd() bool { return r.chance(2) }

// usual is one of the first, or now and then something odd.
func usual[T any](r *roughClient, of []T, odd ...T) T {
	if r.odd() {
		return among(r, odd...)
	}
	return among(r, of...)
}

func among[T any](r *roughClient, of ...T) T { return of[r.IntN(len(of))] }

func (r *roughClient) keep(hs ...*queuepb.Handle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range hs {
		if h == nil {
			continue
		}
		if len(r.handles) == 300 {
			r.handles = slices.Delete(r.handles, 0, 100)
		}
		r.handles = append(r.handles, h)
	}
}

// The kinds of handles, as their tokens begin.
const (
	sendKind    = "qh1s_"
	receiveKind = "qh1r_"
	leaseKind   = "qh1l_"
)

// handle is one of those that somebody got, mostly of the kind that is asked for, or nonsense.
func (r *roughClient) handle(kind string) *queuepb.Handle {
	if r.odd() {
		kind = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var fit []*queuepb.Handle
	for _, h := range r.handles {
		if strings.HasPrefix(h.Token, kind) {
			fit = append(fit, h)
		}
	}
	if len(fit) == 0 || r.odd() {
		return among(r, nil, &queuepb.Handle{}, &queuepb.Handle{Token: kind}, &queuepb.Handle{Token: strings.Repeat("ä", 100)})
	}
	h := fit[max(r.IntN(len(fit)), r.IntN(len(fit)))] // rather a young one
	if r.odd() {                                      // one character is another one
		i := r.IntN(len(h.Token))
		return &queuepb.Handle{Token: h.Token[:i] + "x" + h.Token[i+1:]}
	}
	return h
}

func (r *roughClient) some() map[string]*queuepb.Handle {
	hs := make(map[string]*queuepb.Handle)
	for range usual(r, []int{0, 0, 0, 0, 1, 2}, 32, 33) {
		hs[fmt.Sprint("h", r.IntN(1000))] = r.handle(among(r, sendKind, receiveKind))
	}
	return hs
}

func (r *roughClient) queue() string {
	return usual(r, []string{"a", "b", "b.c", "b.d"}, "", "..", "UPPER", strings.Repeat("q", 129), "\x00", "ü")
}

func (r *roughClient) duration(sensible ...time.Duration) *durationpb.Duration {
	switch {
	case r.chance(20):
		return nil
	case r.odd():
		return among(r, &durationpb.Duration{}, &durationpb.Duration{Seconds: -1}, &durationpb.Duration{Nanos: -1},
			&durationpb.Duration{Seconds: 1, Nanos: -1}, &durationpb.Duration{Seconds: math.MaxInt64, Nanos: math.MaxInt32},
			&durationpb.Duration{Seconds: math.MinInt64}, &durationpb.Duration{Seconds: 315_576_000_000}, &durationpb.Duration{Nanos: 1})
	default:
		return durationpb.New(among(r, sensible...))
	}
}

func (r *roughClient) time() *timestamppb.Timestamp {
	return usual(r, []*timestamppb.Timestamp{nil, timestamppb.New(time.Now().Add(50 * time.Millisecond)), timestamppb.New(time.Now().Add(-time.Hour))},
		&timestamppb.Timestamp{Seconds: -62_135_596_800}, &timestamppb.Timestamp{Seconds: 253_402_300_799, Nanos: 999_999_999},
		&timestamppb.Timestamp{Seconds: math.MinInt64}, &timestamppb.Timestamp{Seconds: math.MaxInt64, Nanos: -5})
}

func (r *roughClient) message() *queuepb.Message {
	if r.chance(5) {
		return nil
	}
	m := &queuepb.Message{
		Payload: make([]byte, among(r, 0, 1, 100, 5000)), ContentType: usual(r, []string{"", "text/plain"}, strings.Repeat("t", 300)),
		Handles: r.some(),
	}
	if r.chance(30) {
		m.ReplyTo = r.handle(sendKind)
	}
	for range usual(r, []int{0, 0, 1, 5}, 64, 65, 3000) {
		if m.Headers == nil {
			m.Headers = make(map[string]string)
		}
		m.Headers[usual(r, []string{"k"}, "", "🗝", "K", "replyq-")+fmt.Sprint(r.IntN(5000))] = usual(r, []string{"", "v", "ü"}, strings.Repeat("v", 9000))
	}
	if h := r.handle(sendKind); h != nil && r.chance(5) {
		m.Payload = []byte(h.Token)
	}
	return m
}

func (r *roughClient) pipe() *queuepb.PipeOptions {
	o := &queuepb.PipeOptions{
		Timeout:         durationpb.New(time.Duration(1+r.IntN(3000)) * time.Millisecond),
		DisconnectGrace: r.duration(time.Millisecond, time.Second), CapacityReplies: usual(r, []uint32{0, 1, 2}, math.MaxUint32),
		CapacityBytes: usual(r, []uint64{0, 0, 1}, math.MaxUint64), Retain: r.duration(time.Millisecond, time.Second),
		IfAbandoned: usual(r, []queuepb.IfAbandoned{0, 1, 2}, -7),
	}
	if r.chance(10) {
		o.Parent = r.handle(among(r, sendKind, receiveKind))
	}
	return o
}

func (r *roughClient) enqueue() *queuepb.EnqueueRequest {
	e := &queuepb.EnqueueRequest{
		Queue: r.queue(), Message: r.message(), Expiry: r.duration(time.Millisecond, time.Second),
		Priority: usual(r, []uint32{0, 0, 9}, 10, math.MaxUint32), Group: usual(r, []string{"", "", "g", "h"}, strings.Repeat("g", 129)),
		IdempotencyKey:  usual(r, []string{"", "", "", fmt.Sprint("key", r.IntN(100))}, strings.Repeat("k", 129)),
		RequireConsumer: r.chance(10),
	}
	if r.chance(10) {
		e.Delay = r.duration(time.Millisecond, 100*time.Millisecond)
	}
	if r.chance(10) {
		e.DeliverAt = r.time()
	}
	if r.chance(20) {
		e.Pipe = r.pipe()
	}
	return e
}

func (r *roughClient) reply() *queuepb.ReplyRequest {
	q := &queuepb.ReplyRequest{Handle: r.handle(sendKind), ReplyId: usual(r, []string{"", "", "id"}, strings.Repeat("i", 65))}
	switch r.IntN(8) {
	case 0:
		q.Body = &queuepb.ReplyRequest_Error{Error: &queuepb.Error{
			Code: usual(r, []int32{1, 13, 16}, 0, 17, -1, math.MaxInt32), Reason: usual(r, []string{"", "MINE"}, "not upper"), Message: "failed",
			Details: usual(r, [][]*anypb.Any{nil}, []*anypb.Any{{TypeUrl: "x", Value: []byte{1}}}),
		}}
	case 1:
		q.Body = &queuepb.ReplyRequest_Splice{Splice: r.handle(receiveKind)}
	case 2:
	default:
		q.Body = &queuepb.ReplyRequest_Payload{Payload: make([]byte, among(r, 0, 1, 5000))}
		q.Handles, q.More = r.some(), r.chance(60)
	}
	if r.chance(40) {
		q.Lease, q.Ack = r.handle(leaseKind), r.chance(50)
	}
	return q
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
