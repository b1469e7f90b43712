package server

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// Call implements the RPC.
func (s *service) Call(req *queuepb.CallRequest, stream grpc.ServerStreamingServer[queuepb.CallResponse]) error {
	ctx := stream.Context()
	c := s.caller(ctx)
	timeout := rpcTimeout(ctx, c.now, s.limits.pipeTimeout)
	enqueue, err := c.call(req, timeout-2*early(timeout)) // so that the End comes before the RPC is over
	if err != nil {
		return err
	}
	return s.stream(ctx, c, operation{kind: kindCall, request: enqueue, credit: 1}, func(r *queuepb.Result) error {
		return stream.Send(r.GetCall())
	})
}

// rpcTimeout is the time that an RPC has left, as the timeout of its pipe; 0 if it has no deadline.
func rpcTimeout(ctx context.Context, now time.Time, limit time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return min(explicit(deadline.Sub(now)), limit)
}

// early is how long before an RPC's deadline the server ends it by itself. At the deadline gRPC would reset the stream
// here, perhaps before the client's own timer fires; some clients then report CANCELLED instead of DEADLINE_EXCEEDED.
func early(left time.Duration) time.Duration { return min(left/10, 20*time.Millisecond) }

// stream carries out one plain RPC that streams: Call, Consume or Receive. One item of credit is out at a time, and the
// next is given when Send has returned: nothing is leased to, or counted as passed by, a buffer.
func (s *service) stream(ctx context.Context, c *caller, op operation, send func(*queuepb.Result) error) error {
	bs := c.tenure.broker.Attach(c.id, broker.SessionOptions{})
	defer bs.Close() // before its end, this is a cut
	// The receipt of a Call waits for the reply: a caller who is not awake yet need not be woken twice.
	bs.Submit([]broker.Op{{ID: 1, Credit: op.credit, Patient: op.kind == kindCall, Request: op.request}})
	clock := newStreamClock(ctx, bs.Holds())
	defer clock.stop()
	events := make([]broker.Event, 0, 4)
	for {
		select {
		case <-bs.Ready():
		case <-clock.c:
			if clock.over() {
				return context.DeadlineExceeded
			}
		case <-c.tenure.stopping:
			return s.lastEvents(bs, op.kind, send)
		case <-ctx.Done():
			return ctx.Err()
		}
		cut := bs.CutOff() // before the events, which may be there by now
		events = bs.Take(events[:0])
		for i := range events {
			if over, err := s.event(bs, op.kind, &events[i], send); over || err != nil {
				return err
			}
		}
		clear(events)
		if cut != nil {
			return cut
		}
	}
}

// A streamClock tells a stream when its receipt has waited long enough, and when its RPC is about to be over.
type streamClock struct {
	c        <-chan time.Time // nil if neither comes
	timer    *time.Timer
	deadline time.Time // a little before the RPC's; zero if it has none
	patient  bool      // the receipt is waiting
}

func newStreamClock(ctx context.Context, patient bool) *streamClock {
	clock := &streamClock{patient: patient}
	wait := patience
	if at, ok := ctx.Deadline(); ok {
		left := time.Until(at)
		left -= early(left)
		clock.deadline = time.Now().Add(left)
		if !patient || left < wait {
			wait, clock.patient = left, false
		}
	}
	if clock.patient || !clock.deadline.IsZero() {
		clock.timer = time.NewTimer(wait)
		clock.c = clock.timer.C
	}
	return clock
}

// over is called when c has received; it reports whether the RPC is over.
func (c *streamClock) over() bool {
	if !c.patient {
		return true
	}
	c.patient = false
	if !c.deadline.IsZero() {
		c.timer.Reset(time.Until(c.deadline))
	}
	return false
}

func (c *streamClock) stop() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

// event sends one event of a stream. It reports whether the stream is over, and with which error.
func (s *service) event(
	bs *broker.Session, k kind, event *broker.Event, send func(*queuepb.Result) error,
) (over bool, err error) {
	if refused, ok := event.Body.(*broker.Error); ok {
		return true, refused
	}
	if event.Body == nil {
		return event.Done, nil
	}
	f := frame{keys: s.keys}
	if err := send(f.result(k, 1, event.Done, event.Body)); err != nil {
		return true, err
	}
	switch body := event.Body.(type) {
	case *broker.End:
		bs.Passed(1)
		bs.Flush()
		return true, endStatus(body)
	case *broker.Delivery, *broker.ReplyItem:
		bs.Credit(1, 1)
	}
	return event.Done, nil
}

// lastEvents sends what the broker's shutdown has left for a stream, above all its End.
func (s *service) lastEvents(bs *broker.Session, k kind, send func(*queuepb.Result) error) error {
	for _, event := range bs.Take(nil) {
		if over, err := s.event(bs, k, &event, send); over || err != nil {
			return err
		}
	}
	return s.over()
}
