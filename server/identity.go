package server

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/broker"
)

// The identity of callers on a server without API keys.
var anonymous = broker.Identity{Tenant: defaultTenant, TenantName: defaultTenantName, Principal: "anonymous"}

// maxCredentials is how long an authorization header may be.
const maxCredentials = 4 << 10

type identityKey struct{}

// identityOf is who the caller is; the auth interceptor has put it there.
func identityOf(ctx context.Context) broker.Identity {
	id, ok := ctx.Value(identityKey{}).(broker.Identity)
	if !ok {
		return broker.Identity{} // unreachable: tenant 0 owns nothing and can mint nothing
	}
	return id
}

// authenticate is the auth interceptor's function: it finds out who calls, and puts that into the context and into the
// call's line in the log.
func (s *Server) authenticate(ctx context.Context) (context.Context, error) {
	id, relayed := anonymous, false
	var err *broker.Error
	if s.peers != nil {
		var vouched broker.Identity
		if vouched, relayed, err = s.vouched(ctx); err != nil {
			return nil, err
		}
		if relayed {
			id, ctx = vouched, s.welcome(ctx)
		}
	}
	if s.apiKeys != nil && !relayed {
		if id, err = s.identify(ctx); err != nil {
			return nil, err
		}
	}
	if line, ok := ctx.Value(callLineKey{}).(*callLine); ok {
		line.id = id
	}
	return context.WithValue(ctx, identityKey{}, id), nil
}

// identify reads the credentials. What was wrong with them is not told, but that they were missing is.
func (s *Server) identify(ctx context.Context) (broker.Identity, *broker.Error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return broker.Identity{}, refuse(reasonCredentialsMissing, "",
			"send an API key with each call: authorization: Bearer qk1_...")
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if len(values) == 1 && len(values[0]) <= maxCredentials && strings.EqualFold(scheme, "Bearer") {
		if id, ok := s.apiKeys.Identify(key, s.now()); ok {
			return id, nil
		}
	}
	return broker.Identity{}, refuse(reasonCredentialsInvalid, "",
		"the credentials are not valid, or not any more: send one header, authorization: Bearer qk1_..., with a key of this server")
}

// openService is the service that is open to everybody: health is asked by machines that hold no keys.
const openService = "grpc.health.v1.Health"

// needsNoIdentity reports whether a method is of that service.
func needsNoIdentity(fullMethod string) bool {
	return strings.HasPrefix(fullMethod, "/"+openService+"/")
}
