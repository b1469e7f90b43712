package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/replyq/replyq/api/queuepb"
)

// CreateQueue makes a queue; config may be nil. Queues are also made by first use. The error is [ReasonQueueExists] if
// it is there already.
func (c *Client) CreateQueue(ctx context.Context, name string, config *queuepb.QueueConfig) (*queuepb.Queue, error) {
	request := &queuepb.CreateQueueRequest{Name: name, Config: config}
	response, err := plain(ctx, c.admin().CreateQueue, request)
	if err != nil {
		return nil, fmt.Errorf("create queue %q: %w", name, err)
	}
	return response.GetQueue(), nil
}

// Queue returns a queue's configuration and statistics.
func (c *Client) Queue(ctx context.Context, name string) (*queuepb.Queue, error) {
	response, err := plain(ctx, c.admin().GetQueue, &queuepb.GetQueueRequest{Name: name})
	if err != nil {
		return nil, fmt.Errorf("queue %q: %w", name, err)
	}
	return response.GetQueue(), nil
}

// Queues returns all queues whose names begin with prefix, by name.
func (c *Client) Queues(ctx context.Context, prefix string) ([]*queuepb.Queue, error) {
	var queues []*queuepb.Queue
	request := &queuepb.ListQueuesRequest{Prefix: prefix, PageSize: 1000}
	for {
		response, err := plain(ctx, c.admin().ListQueues, request)
		if err != nil {
			return nil, fmt.Errorf("list queues: %w", err)
		}
		queues = append(queues, response.GetQueues()...)
		if response.GetNextPageToken() == "" {
			return queues, nil
		}
		request.PageToken = response.GetNextPageToken()
	}
}

// UpdateQueue changes those fields of a queue's configuration that are named as in the contract, e.g. "max_length"; none
// means all of them. What config leaves unset gets its default.
func (c *Client) UpdateQueue(
	ctx context.Context, name string, config *queuepb.QueueConfig, fields ...string,
) (*queuepb.Queue, error) {
	request := &queuepb.UpdateQueueRequest{Name: name, Config: config}
	if len(fields) > 0 {
		request.UpdateMask = &fieldmaskpb.FieldMask{Paths: fields}
	}
	response, err := plain(ctx, c.admin().UpdateQueue, request)
	if err != nil {
		return nil, fmt.Errorf("update queue %q: %w", name, err)
	}
	return response.GetQueue(), nil
}

// PauseQueue stops the deliveries of a queue; enqueueing goes on.
func (c *Client) PauseQueue(ctx context.Context, name string) error {
	_, err := c.UpdateQueue(ctx, name, &queuepb.QueueConfig{Paused: true}, "paused")
	return err
}

// ResumeQueue lets a paused queue deliver again.
func (c *Client) ResumeQueue(ctx context.Context, name string) error {
	_, err := c.UpdateQueue(ctx, name, nil, "paused")
	return err
}

// PurgeQueue removes the messages of a queue that are in a state, and returns how many. MESSAGE_STATE_UNSPECIFIED stands
// for all that wait, ready or delayed. Who waits for their answers gets [ErrPurged].
func (c *Client) PurgeQueue(ctx context.Context, name string, state queuepb.MessageState) (uint64, error) {
	response, err := plain(ctx, c.admin().PurgeQueue, &queuepb.PurgeQueueRequest{Name: name, State: state})
	if err != nil {
		return 0, fmt.Errorf("purge queue %q: %w", name, err)
	}
	return response.GetPurgedMessages(), nil
}

// DeleteQueue removes a queue and returns how many messages went with it. Without force the error is
// [ReasonQueueNotEmpty] if it has messages or consumers. Who waits for the messages' answers gets [ErrQueueDeleted].
func (c *Client) DeleteQueue(ctx context.Context, name string, force bool) (uint64, error) {
	response, err := plain(ctx, c.admin().DeleteQueue, &queuepb.DeleteQueueRequest{Name: name, Force: force})
	if err != nil {
		return 0, fmt.Errorf("delete queue %q: %w", name, err)
	}
	return response.GetDeletedMessages(), nil
}

// WatchQueues reports the statistics of the queues whose names begin with prefix: first of all, then, every interval (0:
// 1 s; 100 ms to 1 h), of those that have changed. It goes on until the loop is left or ctx ends. An error is the last
// item.
func (c *Client) WatchQueues(
	ctx context.Context, prefix string, interval time.Duration,
) iter.Seq2[*queuepb.WatchQueuesResponse, error] {
	return func(yield func(*queuepb.WatchQueuesResponse, error) bool) {
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		request := &queuepb.WatchQueuesRequest{Prefix: prefix, Interval: wireDuration(interval)}
		stream, err := c.admin().WatchQueues(watching, request, grpc.WaitForReady(true))
		for err == nil {
			var report *queuepb.WatchQueuesResponse
			if report, err = stream.Recv(); err == nil && !yield(report, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(nil, contextError(ctx, "waiting for a report of queues", OutcomeNotApplied))
			return
		}
		var trailer metadata.MD
		if stream != nil {
			trailer = stream.Trailer()
		}
		yield(nil, fmt.Errorf("watch queues: %w", fromStatus(err, trailer)))
	}
}
