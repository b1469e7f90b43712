package integration_test

import (
	"testing"

	"google.golang.org/grpc/codes"
)

// Several replies, then an end.
func TestStoryFStream(t *testing.T) {
	t.Parallel()
	inEachPair(t, func(t *testing.T, consumer, producer language) {
		s := startServer(t)
		s.consumer(t, consumer, "reports", "stream")
		caller := s.play(t, producer, "producer", "--queue", "reports", "--payload", canary, "--wait")
		caller.await(t, "receipt")
		for i, part := range []string{"part 1", "part 2", "part 3"} {
			want := event{Event: "reply", Payload: part, Sequence: uint64(i) + 1, Attempt: 1}
			caller.next(t).compare(t, caller.name, want)
		}
		caller.next(t).compare(t, caller.name, event{Event: "end", Reason: "OK", Sequence: 3})
		tell(t, caller.name, caller.all(t), "status OK")
	})
}

// An error reply, with code, reason, metadata and typed details.
func TestStoryFError(t *testing.T) {
	t.Parallel()
	inEachPair(t, func(t *testing.T, consumer, producer language) {
		s := startServer(t)
		s.consumer(t, consumer, "reports", "fail")
		caller := s.play(t, producer, "producer", "--queue", "reports", "--payload", canary, "--wait")
		caller.await(t, "receipt")
		caller.next(t).compare(t, caller.name, event{Event: "end", Reason: "FAILED", Error: &eventError{
			Code: int32(codes.NotFound), Reason: "NO_SUCH_REPORT", Message: "there is no report 7",
			Metadata: map[string]string{"report": "7"},
			Details:  []eventDetail{{"type.googleapis.com/google.protobuf.StringValue", []byte("\n\x06page 7")}},
		}})
		status := caller.next(t)
		status.Rich = nil
		status.compare(t, caller.name, event{
			Event: "status", Code: "NOT_FOUND", Reason: "NO_SUCH_REPORT", Message: "there is no report 7",
		})
	})
}
