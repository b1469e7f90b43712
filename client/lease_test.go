package client_test

import (
	"errors"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// What a consumer holds can be settled, extended and stopped from elsewhere, by leases and by its id.
func TestLeasesFromElsewhere(t *testing.T) {
	bed := testbed.New(t)
	worker, other := newClient(t, bed), newClient(t, bed)
	ctx := testContext(t)
	s := consume(ctx, t, worker, client.ConsumeConfig{MaxInFlight: 3, ConsumerID: "worker"}, "jobs")
	pipe := openPipe(ctx, t, other, client.PipeOptions{})
	enqueue(ctx, t, other, "jobs", client.Message{ReplyTo: pipe.Send})
	enqueue(ctx, t, other, "jobs", text("b"))
	first, second := nextDelivery(ctx, t, s), nextDelivery(ctx, t, s)

	extended, err := other.ExtendLeases(ctx, time.Hour, first.Lease(), second.Lease())
	if err != nil || len(extended) != 2 || time.Until(extended[0].Expires) < 59*time.Minute || extended[1].Err != nil {
		t.Errorf("ExtendLeases() = %+v, %v, want an hour for both", extended, err)
	}
	result, err := other.SettleLease(ctx, first.Lease(), client.Settlement{
		Replies:  []client.SettleReply{{To: pipe.Send, Answer: &client.Answer{Payload: []byte("by proxy")}}},
		Messages: []client.Item{{Queue: "next", Message: text("c")}},
	})
	if err != nil || result.Already || len(result.Replies) != 1 || len(result.Receipts) != 1 {
		t.Fatalf("SettleLease() = %+v, %v, want a reply and a receipt", result, err)
	}
	if got, err := replies(other.Receive(ctx, pipe.Receive, 1)); err != nil || len(got) != 1 || got[0] != "by proxy" {
		t.Errorf("Receive() = %q, %v", got, err)
	}
	if result, err := other.SettleLease(ctx, first.Lease(), client.Settlement{}); err != nil || !result.Already {
		t.Errorf("SettleLease() again = %+v, %v, want already", result, err)
	}
	extended, err = other.ExtendLeases(ctx, 0, first.Lease(), second.Lease())
	if err != nil || !errors.Is(extended[0].Err, client.ReasonLeaseStale) || extended[1].Err != nil {
		t.Errorf("ExtendLeases() = %+v, %v, want the first one stale", extended, err)
	}
	if n, err := other.StopConsuming(ctx, "worker"); err != nil || n != 1 {
		t.Errorf("StopConsuming() = %d, %v, want 1 in flight", n, err)
	}
	if _, err := other.SettleLease(ctx, second.Lease(), client.Settlement{Action: client.SettleReject, Reason: "no"}); err != nil {
		t.Errorf("SettleLease(reject) = %v", err)
	}
	if d, err := s.Next(ctx); !errors.Is(err, client.ErrStopped) {
		t.Errorf("Next() = %v, %v, want %v", d, err, client.ErrStopped)
	}
	if _, err := other.StopConsuming(ctx, "worker"); !errors.Is(err, client.ReasonConsumerUnknown) {
		t.Errorf("StopConsuming() again = %v, want CONSUMER_UNKNOWN", err)
	}
}
