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
		BootEpoch:             fmt.Sprintf("%08x", c.tenure.broker.Store()),
		Durability:            durabilities[c.srv.durability],
		DurabilityDescription: c.srv.durabilityDescription,
		Limits:                c.srv.limits.message(),
		Tenant:                c.id.TenantName,
		Principal:             c.id.Principal,
		Now:                   timestamppb.New(c.now),
	}
}

// Durability is what a confirmed operation survives.
type Durability uint8

// The classes.
const (
	InMemory     Durability = iota // nothing: it is kept while the process lives
	OnDiskLazily                   // the end of the process; what came just before a power cut may be lost
	OnDisk                         // the end of the process and of power
	OnCluster                      // the end of any one machine; a power cut of most of them at once may lose what came just before
)

// String gives the name of the class.
func (d Durability) String() string {
	return [...]string{"memory", "disk-lazy", "disk", "cluster"}[d]
}

// durabilities are the classes on the wire.
var durabilities = [...]queuepb.Durability{ //nolint:gochecknoglobals // read only
	queuepb.Durability_DURABILITY_MEMORY, queuepb.Durability_DURABILITY_DISK_LAZY, queuepb.Durability_DURABILITY_DISK,
	queuepb.Durability_DURABILITY_CLUSTER,
}

// inMemory says in words what a confirmed operation survives without a journal.
const inMemory = "no journal: everything is kept in memory while the process lives, and gone when it ends"

// Durability is what a confirmed operation survives, and DurabilityDescription says it in words.
func (s *Server) Durability() Durability { return s.durability }

// DurabilityDescription says what Durability is.
func (s *Server) DurabilityDescription() string { return s.durabilityDescription }
