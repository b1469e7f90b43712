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
		Durability:            c.srv.durability,
		DurabilityDescription: c.srv.durabilityDescription,
		Limits:                c.srv.limits.message(),
		Tenant:                c.id.TenantName,
		Principal:             c.id.Principal,
		Now:                   timestamppb.New(c.now),
	}
}

// inMemory says in words what a confirmed operation survives without a journal.
const inMemory = "no journal: everything is kept in memory while the process lives, and gone when it ends"

// DurabilityDescription says in words what a confirmed operation survives.
func (s *Server) DurabilityDescription() string { return s.durabilityDescription }
