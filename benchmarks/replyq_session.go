package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/replyq/replyq/api/queuepb"
)

// Streamed replies with a worker that speaks the session protocol by itself, from generated stubs: it sends many replies
// to a frame and does not wait for the outcome of one before it sends the next.

const (
	// sessionFrame is how many replies, and how many bytes, a frame has at most.
	sessionFrame      = 128
	sessionFrameBytes = 64 << 10
	// sessionWindow is how many operations may be unanswered; a power of two.
	sessionWindow = 2048
)

func sessionStreamWorker(j *job) (*part, error) {
	conns, closeConns, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var handled atomic.Int64
	closeAll := func() { cancel(); closeConns(); wg.Wait() }
	for _, c := range conns {
		w := &sessionWorker{shape: j.Shape, handled: &handled, deliveries: make(chan *queuepb.Delivery, j.Shape.InFlight), low: 1}
		w.room.L = &w.mu
		if err := w.open(ctx, c); err != nil {
			closeAll()
			return nil, err
		}
		wg.Go(func() { w.must(ctx, w.receive()) })
		wg.Go(func() { w.must(ctx, w.answer(ctx)) })
	}
	return &part{handled: &handled, close: closeAll}, nil
}

// A sessionWorker is one session.
type sessionWorker struct {
	shape      shape
	handled    *atomic.Int64
	stream     grpc.BidiStreamingClient[queuepb.SessionRequest, queuepb.SessionResponse]
	deliveries chan *queuepb.Delivery

	mu       sync.Mutex
	room     sync.Cond
	last     uint64              // operation that was sent
	low      uint64              // the first one that is not answered
	answered [sessionWindow]bool // of those from low on, by their number in the window
}

func (w *sessionWorker) must(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		fatal(err)
	}
}

// open greets the server and begins to consume.
func (w *sessionWorker) open(ctx context.Context, c *grpc.ClientConn) (err error) {
	if w.stream, err = queuepb.NewQueueServiceClient(c).Session(ctx, grpc.ForceCodecV2(vtCodec{})); err != nil {
		return err
	}
	err = w.stream.Send(&queuepb.SessionRequest{
		Hello: &queuepb.Hello{ProtocolVersion: 1, CreditBytes: 1 << 40}, // small requests: credit is no matter here
		Operations: []*queuepb.Operation{{Id: w.next(), Request: &queuepb.Operation_Consume{Consume: &queuepb.ConsumeRequest{
			Queues: []string{replyqQueue}, MaxInFlight: uint32(w.shape.InFlight), //nolint:gosec // small
		}}}},
	})
	for err == nil {
		var frame *queuepb.SessionResponse
		if frame, err = w.stream.Recv(); err != nil {
			return err
		}
		for _, r := range frame.GetResults() {
			if r.GetConsume().GetStarted() != nil {
				w.settled(r.GetId())
				return nil
			}
			if r.GetError() != nil {
				return fmt.Errorf("consume: %v", r.GetError())
			}
		}
	}
	return err
}

// next numbers an operation, once there is room in the window.
func (w *sessionWorker) next() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.last+1-w.low >= sessionWindow {
		w.room.Wait()
	}
	w.last++
	return w.last
}

// settled notes that an operation has its answer.
func (w *sessionWorker) settled(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered[id%sessionWindow] = true
	for w.low <= w.last && w.answered[w.low%sessionWindow] {
		w.answered[w.low%sessionWindow] = false
		w.low++
	}
	w.room.Broadcast()
}

// allSettled waits until every operation has its answer.
func (w *sessionWorker) allSettled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.low <= w.last {
		w.room.Wait()
	}
}

func (w *sessionWorker) answeredBelow() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.low
}

// receive takes deliveries and outcomes.
func (w *sessionWorker) receive() error {
	for {
		frame, err := w.stream.Recv()
		if err != nil {
			return err
		}
		for _, r := range frame.GetResults() {
			switch {
			case r.GetError() != nil:
				return fmt.Errorf("operation %d: %v", r.GetId(), r.GetError())
			case r.GetConsume().GetDelivery() != nil:
				w.deliveries <- r.GetConsume().GetDelivery() // there is room for all in flight
			case r.GetReply() != nil:
				if o := r.GetReply().GetResult().GetOutcome(); o != queuepb.ReplyOutcome_REPLY_OUTCOME_DELIVERED &&
					o != queuepb.ReplyOutcome_REPLY_OUTCOME_BUFFERED {
					return fmt.Errorf("a reply was lost: %v", o)
				}
				w.settled(r.GetId())
			}
		}
	}
}

// answer answers one delivery after the other.
func (w *sessionWorker) answer(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-w.deliveries:
			w.handled.Add(int64(w.shape.answers())) // before the caller can know of it
			if err := w.streamAnswers(d); err != nil {
				return err
			}
		}
	}
}

func (w *sessionWorker) streamAnswers(d *queuepb.Delivery) error {
	answers := newParts(w.shape.Payload)
	if err := answers.to(d.GetMessage().GetPayload()); err != nil {
		return err
	}
	frame := &queuepb.SessionRequest{}
	send := func() error {
		frame.AnsweredBelow = w.answeredBelow()
		err := w.stream.Send(frame)
		frame.Operations = frame.Operations[:0]
		return err
	}
	last := w.shape.answers() - 1
	for i := range last {
		frame.Operations = append(frame.Operations, w.reply(d, answers.at(i), false))
		if len(frame.Operations) == sessionFrame || len(frame.Operations)*w.shape.Payload >= sessionFrameBytes || i == last-1 {
			if err := send(); err != nil {
				return err
			}
		}
	}
	// The reply that ends the pipe is taken when the pipe is full too, so it would overtake those that wait for room.
	w.allSettled()
	frame.Operations = append(frame.Operations, w.reply(d, answers.at(last), true))
	return send()
}

func (w *sessionWorker) reply(d *queuepb.Delivery, payload []byte, last bool) *queuepb.Operation {
	return &queuepb.Operation{Id: w.next(), Patient: true, Request: &queuepb.Operation_Reply{Reply: &queuepb.ReplyRequest{
		Handle: d.GetMessage().GetReplyTo(), Lease: d.GetLease(), More: !last, Ack: last,
		Body: &queuepb.ReplyRequest_Payload{Payload: slices.Clone(payload)},
	}}}
}

// vtCodec encodes and decodes with the methods that were generated beside the messages.
type vtCodec struct{}

// vtCodec implements encoding.CodecV2.
var _ encoding.CodecV2 = vtCodec{}

// Name implements encoding.CodecV2.
func (vtCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (vtCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(interface{ MarshalVT() ([]byte, error) })
	if !ok {
		return nil, errors.New("not a message of queuepb")
	}
	b, err := m.MarshalVT()
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

// Unmarshal implements encoding.CodecV2.
func (vtCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(interface{ UnmarshalVT([]byte) error })
	if !ok {
		return errors.New("not a message of queuepb")
	}
	return m.UnmarshalVT(data.Materialize())
}
