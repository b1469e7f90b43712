package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/replyq/replyq/api/queuepb"
)

// What a replier sends arrives as it was, by the wire and by gRPC's status.
func TestErrorsThereAndBack(t *testing.T) {
	detail, err := anypb.New(wrapperspb.String("detail"))
	if err != nil {
		t.Fatal(err)
	}
	full := &Error{
		Code: codes.Aborted, Reason: "NO_STOCK", Message: "sold out", Metadata: map[string]string{"left": "0"},
		Details: []*anypb.Any{detail},
	}
	same := []cmp.Option{protocmp.Transform(), cmpopts.IgnoreUnexported(Error{}), cmpopts.EquateEmpty()}
	for _, in := range []error{full, fmt.Errorf("wrapped: %w", full), full.GRPCStatus().Err(), &EndError{Reason: ErrFailed, Err: full}} {
		if diff := cmp.Diff(full, fromWire(toWire(in)), same...); diff != "" {
			t.Errorf("%T over the wire (-want +got):\n%s", in, diff)
		}
		if diff := cmp.Diff(full, fromStatus(in, nil), same...); diff != "" {
			t.Errorf("%T as a status (-want +got):\n%s", in, diff)
		}
	}
	server := &Error{
		Code: codes.ResourceExhausted, Reason: ReasonQueueFull, Message: "full", Field: "queue", RetryAfter: time.Second,
		Outcome: OutcomeNotApplied,
	}
	if diff := cmp.Diff(server, fromStatus(server.GRPCStatus().Err(), nil), same...); diff != "" {
		t.Errorf("refusal as a status (-want +got):\n%s", diff)
	}
	plain := fromStatus(status.Error(codes.NotFound, "gone"), metadata.Pairs("replyq-reason", "QUEUE_NOT_FOUND", "replyq-field", "name"))
	if !errors.Is(plain, ReasonQueueNotFound) || plain.Field != "name" || plain.Code != codes.NotFound {
		t.Errorf("with trailers: got %v", plain)
	}
	for _, test := range []struct {
		in   error
		want codes.Code
	}{
		{io.ErrUnexpectedEOF, codes.Unknown}, {context.Canceled, codes.Canceled},
		{fmt.Errorf("late: %w", context.DeadlineExceeded), codes.DeadlineExceeded}, {&Error{}, codes.Unknown},
	} {
		if got := toWire(test.in); got.GetCode() != int32(test.want) {
			t.Errorf("toWire(%v) has code %d, want %v", test.in, got.GetCode(), test.want)
		}
	}
}

// Every reason for which a pipe can end has its error and its code.
func TestEndReasons(t *testing.T) {
	for number, name := range queuepb.EndReason_name {
		reason := queuepb.EndReason(number)
		err := newEndError(&queuepb.End{Reason: reason, LastSequence: 3})
		switch reason {
		case queuepb.EndReason_END_REASON_OK:
			if err != nil {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		case queuepb.EndReason_END_REASON_UNSPECIFIED, queuepb.EndReason_END_REASON_FAILED:
			continue // never sent; with the code of its error
		}
		var end *EndError
		if !errors.As(err, &end) || end.LastSequence != 3 || !errors.Is(err, Reason(name[len("END_REASON_"):])) {
			t.Errorf("%s: got %v", name, err)
		}
		if code := status.Code(err); code == codes.Unknown || code == codes.OK {
			t.Errorf("%s has code %v", name, code)
		}
		if got := errors.Is(err, context.DeadlineExceeded); got != (reason == queuepb.EndReason_END_REASON_EXPIRED) {
			t.Errorf("%s is a passed deadline: %v", name, got)
		}
	}
	failed := newEndError(&queuepb.End{
		Reason: queuepb.EndReason_END_REASON_FAILED, Error: &queuepb.Error{Code: 9, Reason: "MINE", Message: "no"}})
	if !errors.Is(failed, ErrFailed) || !errors.Is(failed, Reason("MINE")) || status.Code(failed) != codes.FailedPrecondition {
		t.Errorf("failed: got %v", failed)
	}
	if errors.Is(failed, Reason("")) {
		t.Error("the empty reason matches")
	}
}

func TestAPIKeyAndFrameLimit(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
			t.Error(err)
		}
		var e *Error
		_, err := c.Enqueue(t.Context(), "q", Message{Payload: make([]byte, 3000)})
		if !errors.Is(err, ReasonFrameTooLarge) || !errors.As(err, &e) || e.Outcome != OutcomeNotApplied {
			t.Errorf("too long: got %v", err)
		}
	}, func(s *fakeSession) error {
		md, _ := metadata.FromIncomingContext(s.stream.Context())
		if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer key" {
			t.Errorf("authorization: got %q", got)
		}
		s.greet("1", func(i *queuepb.GetServerInfoResponse) { i.Limits = &queuepb.Limits{FrameBytes: 2000} })
		s.results(enqueued(s.op(), "m"))
		return s.drain()
	}, WithAPIKey("key"))
}
