package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

func TestQueueAdministration(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	q, err := c.CreateQueue(ctx, "jobs", &queuepb.QueueConfig{MaxLength: 1000, Backoff: durationpb.New(time.Second)})
	if err != nil || q.GetConfig().GetMaxLength() != 1000 {
		t.Fatalf("CreateQueue() = %v, %v", q, err)
	}
	if _, err := c.CreateQueue(ctx, "jobs", nil); !errors.Is(err, client.ReasonQueueExists) {
		t.Errorf("CreateQueue() again = %v, want QUEUE_EXISTS", err)
	}
	if q, err = c.UpdateQueue(ctx, "jobs", &queuepb.QueueConfig{MaxLength: 5}, "max_length", "backoff"); err != nil ||
		q.GetConfig().GetMaxLength() != 5 || q.GetConfig().GetBackoff() != nil {
		t.Errorf("UpdateQueue() = %v, %v", q, err)
	}
	if _, err := c.UpdateQueue(ctx, "jobs", &queuepb.QueueConfig{MaxFailures: 5000}); !errors.Is(err, client.ReasonQueueConfigInvalid) {
		t.Errorf("UpdateQueue() out of range = %v, want QUEUE_CONFIG_INVALID", err)
	}
	if err := c.PauseQueue(ctx, "jobs"); err != nil {
		t.Fatal(err)
	}
	if q, err = c.Queue(ctx, "jobs"); err != nil || !q.GetConfig().GetPaused() {
		t.Errorf("Queue() = %v, %v, want it paused", q, err)
	}
	call := c.Call(ctx, "jobs", text("x"))
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.PurgeQueue(ctx, "jobs", queuepb.MessageState_MESSAGE_STATE_UNSPECIFIED); err != nil || n != 1 {
		t.Errorf("PurgeQueue() = %d, %v, want 1", n, err)
	}
	if _, err := call.One(); !errors.Is(err, client.ErrPurged) {
		t.Errorf("the purged call = %v, want PURGED", err)
	}
	if err := c.ResumeQueue(ctx, "jobs"); err != nil {
		t.Fatal(err)
	}
	call = c.Call(ctx, "jobs", text("x"))
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteQueue(ctx, "jobs", false); !errors.Is(err, client.ReasonQueueNotEmpty) {
		t.Errorf("DeleteQueue() = %v, want QUEUE_NOT_EMPTY", err)
	}
	if n, err := c.DeleteQueue(ctx, "jobs", true); err != nil || n != 1 {
		t.Errorf("DeleteQueue() by force = %d, %v, want 1", n, err)
	}
	if _, err := call.One(); !errors.Is(err, client.ErrQueueDeleted) {
		t.Errorf("the deleted call = %v, want QUEUE_DELETED", err)
	}
	if _, err := c.Queue(ctx, "jobs"); !errors.Is(err, client.ReasonQueueNotFound) {
		t.Errorf("Queue() = %v, want QUEUE_NOT_FOUND", err)
	}
}

// TestStrictOrder: a worker with room for many works on one message of a group at a time.
func TestStrictOrder(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	if _, err := c.CreateQueue(ctx, "jobs", &queuepb.QueueConfig{GroupConcurrency: 1}); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"1", "2", "3"} {
		enqueue(ctx, t, c, "jobs", text(body), client.WithGroup("g"), client.WithPriority(2))
	}
	s := consume(ctx, t, c, client.ConsumeConfig{MaxInFlight: 10}, "jobs")
	for _, want := range []string{"1", "1", "2", "3"} {
		d := nextDelivery(ctx, t, s)
		if string(d.Payload) != want || d.Group != "g" || d.Priority != 2 {
			t.Errorf("got %q of group %q and priority %d, want %q", d.Payload, d.Group, d.Priority, want)
		}
		settle := func() error { return d.Ack(ctx) }
		if d.Attempt == 1 && want == "1" {
			settle = func() error { return d.Retry(ctx, 0, "once more") }
		}
		if err := settle(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEnqueueWaitsForRoom: a full queue is waited for.
func TestEnqueueWaitsForRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testbed.Bed, c *client.Client) {
		ctx := t.Context()
		if _, err := c.CreateQueue(ctx, "jobs", &queuepb.QueueConfig{MaxLength: 1}); err != nil {
			t.Fatal(err)
		}
		enqueue(ctx, t, c, "jobs", text("first"))
		done := make(chan error, 1)
		go func() {
			_, err := c.Enqueue(ctx, "jobs", text("second"))
			done <- err
		}()
		select {
		case err := <-done:
			t.Fatalf("Enqueue() into a full queue = %v, want it to wait", err)
		case <-time.After(time.Minute):
		}
		if _, err := c.PurgeQueue(ctx, "jobs", 0); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("Enqueue() = %v, want the message stored when there was room", err)
		}
	})
}

func TestMessageAdministration(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	s := consume(ctx, t, c, client.ConsumeConfig{MaxInFlight: 10}, "jobs")
	const n = 120 // more than a page
	for range n {
		enqueue(ctx, t, c, "jobs", text("x"))
		if err := nextDelivery(ctx, t, s).Reject(ctx, "no good"); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for m, err := range c.Messages(ctx, "jobs", queuepb.MessageState_MESSAGE_STATE_DEAD, 0) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.GetMessageId())
	}
	if len(ids) != n {
		t.Fatalf("Messages() gave %d, want %d", len(ids), n)
	}
	for m, err := range c.Messages(ctx, "jobs", 0, 0) {
		if err != nil || m.GetMessageId() != ids[0] {
			t.Errorf("Messages() = %v, %v, want %s first", m, err, ids[0])
		}
		break // leaving is allowed
	}
	for _, err := range c.Messages(ctx, "none", 0, 0) {
		if !errors.Is(err, client.ReasonQueueNotFound) {
			t.Errorf("Messages() of no queue = %v, want QUEUE_NOT_FOUND", err)
		}
	}
	if n, err := c.DeleteMessages(ctx, "jobs", ids[2:]...); err != nil || int(n) != len(ids)-2 {
		t.Errorf("DeleteMessages() = %d, %v, want %d", n, err, len(ids)-2)
	}
	if _, err := c.DeleteMessages(ctx, "jobs"); !errors.Is(err, client.ReasonMessageIDsInvalid) {
		t.Errorf("DeleteMessages() of none = %v, want MESSAGE_IDS_INVALID", err)
	}
	if n, err := c.RedriveMessages(ctx, "jobs", "", ids[0]); err != nil || n != 1 {
		t.Errorf("RedriveMessages() of one = %d, %v, want 1", n, err)
	}
	if d := nextDelivery(ctx, t, s); d.MessageID != ids[0] {
		t.Errorf("got %s, want the redriven %s", d.MessageID, ids[0])
	}
	if n, err := c.RedriveMessages(ctx, "jobs", "again"); err != nil || n != 1 {
		t.Errorf("RedriveMessages() = %d, %v, want the 1 that is left", n, err)
	}
	if q, err := c.Queue(ctx, "again"); err != nil || q.GetStatistics().GetReady() != 1 {
		t.Errorf("Queue() = %v, %v, want a message in it", q, err)
	}
}

func TestEndPipe(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	call := c.Call(ctx, "jobs", text("x"))
	receipt, err := call.Receipt()
	if err != nil {
		t.Fatal(err)
	}
	if ended, _, err := c.EndPipeOf(ctx, receipt.MessageID, "enough"); err != nil || !ended {
		t.Errorf("EndPipeOf() = %v, %v", ended, err)
	}
	if _, err := call.One(); !errors.Is(err, client.ErrRevoked) {
		t.Errorf("the call = %v, want REVOKED", err)
	}
	if ended, reason, err := c.EndPipe(ctx, receipt.ReceiveHandle, ""); err != nil || ended || reason != client.ErrRevoked {
		t.Errorf("EndPipe() of an ended pipe = %v, %v, %v", ended, reason, err)
	}
	if _, _, err := c.EndPipeOf(ctx, receipt.MessageID, ""); !errors.Is(err, client.ReasonMessageUnknown) {
		t.Errorf("EndPipeOf() of a withdrawn message = %v, want MESSAGE_UNKNOWN", err)
	}
}

func TestWatchQueues(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	enqueue(ctx, t, c, "jobs", text("x"))
	seen := 0
	for report, err := range c.WatchQueues(ctx, "jobs", 100*time.Millisecond) {
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range report.GetQueues() {
			if q.GetQueue() != "jobs" || q.GetReady() != 1 || q.GetEnqueueRate() == 0 {
				t.Errorf("report = %v", report)
			}
		}
		if seen++; seen == 3 {
			break
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for report, err := range c.WatchQueues(ended, "", 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("WatchQueues() with an ended context = %v, %v", report, err)
		}
	}
	for report, err := range c.WatchQueues(ctx, "", time.Millisecond) {
		if !errors.Is(err, client.Reason("INTERVAL_INVALID")) {
			t.Errorf("WatchQueues() every millisecond = %v, %v, want INTERVAL_INVALID", report, err)
		}
	}
}

// TestConsumerOfADeletedQueue: Next says why nothing more comes.
func TestConsumerOfADeletedQueue(t *testing.T) {
	c := newClient(t, testbed.New(t))
	ctx := testContext(t)
	s := consume(ctx, t, c, client.ConsumeConfig{}, "jobs")
	if _, err := c.DeleteQueue(ctx, "jobs", true); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Next(ctx); !errors.Is(err, client.ReasonQueueNotFound) {
		t.Errorf("Next() = %v, %v, want QUEUE_NOT_FOUND", d, err)
	}
}
