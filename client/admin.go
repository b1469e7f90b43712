package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
)

// ServerInfo asks the server for its version, limits and durability, and who the caller is to it.
func (c *Client) ServerInfo(ctx context.Context) (*queuepb.GetServerInfoResponse, error) {
	response := new(queuepb.GetServerInfoResponse)
	if err := c.unary(ctx, c.pick(), opInfo, new(queuepb.GetServerInfoRequest), response); err != nil {
		return nil, fmt.Errorf("server info: %w", err)
	}
	return response, nil
}

// The methods below are plain RPCs: one call at a time, on a connection that a session uses as well.

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

func (c *Client) admin() queuepb.AdminServiceClient { return queuepb.NewAdminServiceClient(c.Conn()) }

// plain makes a plain RPC and turns its error into an [*Error].
func plain[In, Out any](
	ctx context.Context, rpc func(context.Context, In, ...grpc.CallOption) (Out, error), request In,
) (Out, error) {
	var trailer metadata.MD
	response, err := rpc(ctx, request, grpc.Trailer(&trailer), grpc.WaitForReady(true))
	if err != nil {
		return response, fromStatus(err, trailer)
	}
	return response, nil
}
