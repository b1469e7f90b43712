package client

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Option configures a [Client].
type Option func(*config)

type config struct {
	apiKey      string
	logger      *slog.Logger
	sessions    int
	credentials credentials.TransportCredentials
	dial        []grpc.DialOption
	backoff     Backoff
	name        string
	propagator  Propagator
}

// Backoff says how long to wait before the next attempt to connect: Initial at first, then each time half as long
// again, up to Max, each spread by a fifth either way. Zero fields have their defaults.
type Backoff struct {
	// Initial is the first wait. Default 50 ms.
	Initial time.Duration
	// Max is the longest. Default 3 s: after a restart a server with a journal keeps what consumers have for 5 s at least.
	Max time.Duration
}

// WithAPIKey sends "authorization: Bearer KEY" with everything. Without transport security the key is sent in the
// clear: use it so on loopback only.
func WithAPIKey(key string) Option { return func(c *config) { c.apiKey = key } }

// WithLogger logs lost and regained connections, panics of handlers and lost leases. No payloads are logged. Default:
// nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithSessions opens n sessions, each on a connection of its own, and spreads calls and consumers over them in turn.
// Default 1. More than one keeps several cores busy; order between calls is then only kept if one awaits the other.
func WithSessions(n int) Option { return func(c *config) { c.sessions = max(n, 1) } }

// WithTransportCredentials sets the transport's security. Default: none, which suits loopback and trusted networks
// only; use credentials.NewTLS elsewhere.
func WithTransportCredentials(t credentials.TransportCredentials) Option {
	return func(c *config) { c.credentials = t }
}

// WithDialOptions adds options for gRPC, after the client's own, which they override.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(c *config) { c.dial = append(c.dial, options...) }
}

// WithBackoff sets the waits between attempts to connect.
func WithBackoff(b Backoff) Option { return func(c *config) { c.backoff = b } }

// WithName names the program in the server's logs. At most 64 bytes. Default "replyq-go".
func WithName(name string) Option { return func(c *config) { c.name = cut(name, 64) } }

// bearer puts the API key into every RPC.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false for the sake of loopback; see [WithAPIKey].
func (bearer) RequireTransportSecurity() bool { return false }
