package client

import (
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
)

// What is taken between two streams, when nothing can be granted, is granted afterwards: otherwise each cut would leave
// the reader with less room, and in the end with none.
func TestTakenBetweenStreams(t *testing.T) {
	var taken chan struct{}
	withFake(t, func(t *testing.T, c *Client) {
		taken = make(chan struct{}) // of the bubble
		n := 0
		for _, err := range c.Call(t.Context(), "q", Message{}).Replies() {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 1 {
				<-taken // the rest is taken when the second stream is there
			}
			if n == readerCredit {
				taken <- struct{}{}
			}
		}
		if n != readerCredit+1 {
			t.Errorf("got %d replies", n)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		s.results(receipt(op, "handle"))
		for i := range readerCredit {
			s.results(callReply(op, uint64(i+1), "x"))
		}
		synctest.Wait()
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		if got := op.GetCredit(); got != 1 {
			t.Errorf("credit of the second stream: got %d, want 1 with all the rest unread", got)
		}
		taken <- struct{}{}
		<-taken
		synctest.Wait()
		s.results(attached(op))
		room := int(op.GetCredit())
		for room < readerCredit {
			if !s.read() {
				t.Fatalf("in the end there is room for %d replies, want %d", room, readerCredit)
			}
			for _, credit := range s.credits {
				if credit.GetOperationId() == op.GetId() {
					room += int(credit.GetItems())
				}
			}
			s.credits = nil
		}
		s.results(received(op, readerCredit+1, "last"), receiveEnd(op, queuepb.EndReason_END_REASON_OK))
		return s.drain()
	})
}
