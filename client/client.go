package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/replyq/replyq/internal/buffers"
)

// Figures of the transport; the server's are their counterparts.
const (
	streamWindow   = 1 << 20
	connWindow     = 4 << 20
	maxMessage     = 8 << 20
	keepaliveTime  = 20 * time.Second
	keepaliveReply = 10 * time.Second
	connectTimeout = 10 * time.Second
)

// closeGrace is how long Close waits for answers to what is on its way.
const closeGrace = time.Second

// version of this library, for the server's logs.
const version = "0.1"

// Client talks to one service. It is safe for use by many goroutines, and one is enough for a program. Close it in the
// end.
type Client struct {
	target  string
	backoff Backoff
	name    string
	log     *slog.Logger
	links   []*link
	turn    atomic.Uint64
	pools   pools
	buffers buffers.Pool // of its connections

	propagator  Propagator
	passesTrace bool // it is passTrace

	ctx       context.Context // ends with Close
	cancel    context.CancelCauseFunc
	wg        sync.WaitGroup // run goroutines of the links
	closeOnce sync.Once
	closeErr  error
}

// New makes a client for the service at target, e.g. "127.0.0.1:7420" or any other form that gRPC understands. It does
// no I/O: connections are made by the first call that needs one, and an address where nobody listens shows there. It
// fails if an option or the target cannot be used.
func New(target string, options ...Option) (*Client, error) {
	cfg := config{sessions: 1, logger: slog.New(slog.DiscardHandler), credentials: insecure.NewCredentials(), name: "replyq-go", propagator: passTrace{}}
	for _, option := range options {
		option(&cfg)
	}
	cfg.backoff.Initial = cmp.Or(cfg.backoff.Initial, 50*time.Millisecond)
	cfg.backoff.Max = max(cmp.Or(cfg.backoff.Max, defaultBackoffMax), cfg.backoff.Initial)

	ctx, cancel := context.WithCancelCause(context.Background())
	c := &Client{target: target, backoff: cfg.backoff, name: cfg.name, log: cfg.logger, ctx: ctx, cancel: cancel, propagator: cfg.propagator}
	_, c.passesTrace = cfg.propagator.(passTrace)
	for range cfg.sessions {
		conn, err := grpc.NewClient(target, cfg.dialOptions(&c.buffers)...)
		if err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("client for %q: %w", target, err)
		}
		c.links = append(c.links, newLink(c, conn))
	}
	return c, nil
}

func (cfg *config) dialOptions(pool *buffers.Pool) []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(cfg.credentials),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(&codec{pool}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		experimental.WithBufferPool(pool),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveReply, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: cfg.backoff.Initial, Multiplier: backoffFactor, Jitter: backoffJitter, MaxDelay: cfg.backoff.Max},
			MinConnectTimeout: connectTimeout}),
		// Its buffer of what was sent would be a copy of what the link keeps anyway.
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
	}
	if cfg.apiKey != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(cfg.apiKey)))
	}
	return append(options, cfg.dial...)
}

// Conn is a connection of the client, for plain RPCs with the stubs of package queuepb, such as those of AdminService.
// It closes with the client.
func (c *Client) Conn() *grpc.ClientConn { return c.links[0].conn }

// Close ends the client and waits for its goroutines. What is already on its way (settlements, cancellations) has up
// to a second to be answered; calls that wait end with [ErrClosed]. Pipes stay open at the server until abandoned, and
// deliveries that are held return to their queues. Closing again does nothing.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		for _, l := range c.links {
			l.flush(closeGrace)
		}
		c.cancel(ErrClosed)
		for _, l := range c.links {
			l.close()
		}
		c.wg.Wait()
		for _, l := range c.links {
			if err := l.conn.Close(); err != nil && c.closeErr == nil {
				c.closeErr = err
			}
		}
	})
	return c.closeErr
}

// pick returns the link whose turn it is.
func (c *Client) pick() *link {
	if len(c.links) == 1 {
		return c.links[0]
	}
	return c.links[c.turn.Add(1)%uint64(len(c.links))]
}

// randomText returns 26 random characters of [A-Z2-7].
func randomText() string { return rand.Text() }
