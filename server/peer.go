package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/replyq/replyq/broker"
)

// Peers says that a server is one of several replicas, of which one at a time serves: [Server.Own] and [Server.Relay]
// tell which. The others relay every call to it. They know each other by their keys, which have to be the same.
type Peers struct {
	// Node is this replica's name, which GetServerStatistics tells.
	Node string
	// Dial are options for connections to other replicas, beside the server's own. Default: plain TCP.
	Dial []grpc.DialOption
	// MemoryLimit bounds what comes in over all connections, as the broker's does without replicas. Default: no bound.
	MemoryLimit int64
}

// What a replica tells the owner of a call that it relays. Nobody else may send these.
const (
	// headerPeer proves that the call comes from a replica, and that the identity is what it found.
	headerPeer      = "replyq-peer"
	headerTenant    = "replyq-tenant" // number and name, with a blank between them
	headerPrincipal = "replyq-principal"
)

// The owner's trailers have headerPeer as well: by it the replica knows who has answered.
const (
	peerServes    = "serves"
	peerElsewhere = "elsewhere" // and carried out nothing
)

// peerPurpose is what the proof is for; see [handles.KeyRing.Prove].
const peerPurpose = "replyq relayed call v1"

// proven is what a replica vouches for.
func proven(tenant, principal string) []byte { return []byte(tenant + "\x00" + principal) }

// vouch adds to metadata who calls.
func (s *Server) vouch(md metadata.MD, id *broker.Identity) {
	tenant := strconv.FormatUint(uint64(id.Tenant), 10) + " " + id.TenantName
	md.Set(headerTenant, tenant)
	md.Set(headerPrincipal, id.Principal)
	md.Set(headerPeer, s.keys.Prove(peerPurpose, proven(tenant, id.Principal)))
}

// vouched is who calls, by the word of a replica. Both are zero for a call that none has relayed.
func (s *Server) vouched(ctx context.Context) (id broker.Identity, relayed bool, _ *broker.Error) {
	md, _ := metadata.FromIncomingContext(ctx)
	proof, tenant, principal := md.Get(headerPeer), md.Get(headerTenant), md.Get(headerPrincipal)
	if len(proof)+len(tenant)+len(principal) == 0 {
		return id, false, nil
	}
	if len(proof) != 1 || len(tenant) != 1 || len(principal) != 1 ||
		!s.keys.Proven(peerPurpose, proven(tenant[0], principal[0]), proof[0]) {
		return id, true, errTenantMismatch()
	}
	number, name, _ := strings.Cut(tenant[0], " ")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return id, true, errTenantMismatch() // unreachable: nobody proves that
	}
	return broker.Identity{Tenant: uint32(n), TenantName: name, Principal: principal[0]}, true, nil
}

func errTenantMismatch() *broker.Error {
	return refuse(reasonTenantMismatch, "", fmt.Sprintf(
		"only replicas of this service send %s, %s and %s: leave them out", headerPeer, headerTenant, headerPrincipal))
}

type relayedKey struct{}

// isRelayed reports whether a replica has relayed the call.
func isRelayed(ctx context.Context) bool { return ctx.Value(relayedKey{}) != nil }

// welcome notes that a call comes from a replica.
func (s *Server) welcome(ctx context.Context) context.Context {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(*countedAddr); ok {
			a.conn.trusted.Store(true)
		}
	}
	return context.WithValue(ctx, relayedKey{}, true)
}
