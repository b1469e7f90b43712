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

// What an administrator does, here and in the files that begin with admin_, are plain RPCs: one call at a time, on a
// connection that a session uses as well.

// ServerStatistics asks for figures of the server as a whole: its memory, its journal and its disk.
func (c *Client) ServerStatistics(ctx context.Context) (*queuepb.GetServerStatisticsResponse, error) {
	response, err := plain(ctx, c.admin().GetServerStatistics, new(queuepb.GetServerStatisticsRequest))
	if err != nil {
		return nil, fmt.Errorf("server statistics: %w", err)
	}
	return response, nil
}

// Cluster asks the replica that the client is connected to how the service of several replicas is. It is answered also while
// none of them serves. A server that is not one of several refuses with [ReasonNotReplicated].
func (c *Client) Cluster(ctx context.Context) (*queuepb.GetClusterResponse, error) {
	response, err := plain(ctx, c.admin().GetCluster, new(queuepb.GetClusterRequest))
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return response, nil
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
