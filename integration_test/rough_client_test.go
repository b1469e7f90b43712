package integration_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

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
