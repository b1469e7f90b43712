package faultload

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/history"
)

// awaitEmpty waits until nothing is in any queue of the load but dead messages: three times in a row, for what goes from
// shard to shard is in none for a moment.
func awaitEmpty(ctx context.Context, c *client.Client) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for empty := 0; ; {
		queues, err := c.Queues(ctx, "")
		left := uint64(0)
		for _, q := range queues {
			if !slices.Contains(Queues(), q.GetName()) {
				continue // somebody else's
			}
			s := q.GetStatistics()
			left += s.GetReady() + s.GetInFlight() + s.GetDelayed()
		}
		if empty++; err != nil || left > 0 {
			empty = 0
		}
		if empty == 3 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for empty queues, with %d messages left (%w): %w", left, err, context.Cause(ctx))
		}
	}
}

// NoteLeft notes all messages that are in queues, in whatever state.
func NoteLeft(ctx context.Context, c *client.Client, h *history.History) error {
	queues, err := c.Queues(ctx, "")
	if err != nil {
		return err
	}
	for _, q := range queues {
		for m, err := range c.Messages(ctx, q.GetName(), queuepb.MessageState_MESSAGE_STATE_UNSPECIFIED, 256) {
			if err != nil {
				return err
			}
			id, _, err := history.ParseStart(m.GetPayload())
			if err != nil {
				h.Note(history.Event{What: history.Corrupt, Queue: q.GetName(), Message: m.GetMessageId(), By: "the list of messages", Reason: err.Error()})
				continue
			}
			h.Note(history.Event{What: history.Left, ID: id, Queue: q.GetName(), Message: m.GetMessageId(), Reason: m.GetState().String()})
		}
	}
	return nil
}

// NoteQueues notes the queues that there are.
func NoteQueues(ctx context.Context, c *client.Client, h *history.History) error {
	queues, err := c.Queues(ctx, "")
	if err != nil {
		return err
	}
	for _, q := range queues {
		h.Note(history.Event{What: history.HasQueue, Queue: q.GetName()})
	}
	return nil
}
