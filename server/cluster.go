package server

import (
	"context"

	"github.com/replyq/replyq/api/queuepb"
)

// GetCluster implements the RPC. Whichever replica is asked answers: see anywhere.
func (s *adminService) GetCluster(ctx context.Context, _ *queuepb.GetClusterRequest) (*queuepb.GetClusterResponse, error) {
	if s.cluster == nil {
		return nil, refuse(reasonNotReplicated, "",
			"this server is not one of several replicas, so there is no cluster to tell of: GetServerInfo tells what keeps its queues")
	}
	return s.cluster(ctx), nil
}
