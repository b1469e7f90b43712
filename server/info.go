package server

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
)

// protocolVersion is the Session protocol that the server speaks.
const protocolVersion = 1

// GetServerInfo implements the RPC.
func (s *service) GetServerInfo(
	ctx context.Context, _ *queuepb.GetServerInfoRequest,
) (*queuepb.GetServerInfoResponse, error) {
	return s.caller(ctx).info(), nil
}

func (c *caller) info() *queuepb.GetServerInfoResponse {
	return &queuepb.GetServerInfoResponse{
		Version:               c.srv.version,
		ProtocolVersion:       protocolVersion,
		BootEpoch:             fmt.Sprintf("%08x", c.srv.broker.Store()),
		Durability:            queuepb.Durability_DURABILITY_MEMORY,
		DurabilityDescription: DurabilityDescription,
		Limits:                c.srv.limits.message(),
		Tenant:                c.id.TenantName,
		Principal:             c.id.Principal,
		Now:                   timestamppb.New(c.now),
	}
}

// DurabilityDescription says in words what a confirmed operation survives.
const DurabilityDescription = "no journal: everything is kept in memory while the process lives, and gone when it ends"
