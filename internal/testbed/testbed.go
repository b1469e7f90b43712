// Package testbed runs a whole replyq in the process that asks for it: broker, keys and gRPC server. Tests and examples
// start with it; [New] is for tests, [Start] for examples, which have no testing.TB.
//
// It knows nothing of package client, whose tests use it.
package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/relayflag"
	"github.com/replyq/replyq/server"
)

// A Bed is a running replyq.
type Bed struct {
	// Addr is where it listens: a host and port on loopback, or with [InMemory] a target that only [Bed.DialOptions]
	// can reach.
	Addr string
	// Broker, Keys and Server are its parts. If it is [Relayed], Server is the one that relays.
	Broker *broker.Broker
	Keys   *handles.KeyRing
	Server *server.Server

	// Owner is the server that serves the broker: Server, unless it is [Relayed].
	Owner *server.Server
	// OwnerAddr is where Owner listens.
	OwnerAddr string

	memory *memoryListener // nil on loopback
	owner  *memoryListener // likewise
	turn   chan struct{}
	served chan error
	close  func() error

	mu    sync.Mutex
	conns []*grpc.ClientConn
}

type config struct {
	memory   bool
	relay    bool
	volatile bool
	drain    time.Duration
	broker   broker.Config
	server   server.Config
}

// An Option changes how a Bed is made.
type Option func(*config)

// InMemory makes the Bed listen in memory and not on a port: needed in testing/synctest, where sockets block for ever.
func InMemory() Option { return func(c *config) { c.memory = true } }

// Relayed makes clients talk to a replica that relays all to the one that serves. Tests that run with -relay all do.
func Relayed() Option { return func(c *config) { c.relay = true } }

// Volatile makes a Bed without a journal, whatever [Prepare] says: for tests of what only holds without one.
func Volatile() Option { return func(c *config) { c.volatile = true } }

// prepare changes the broker's configuration; nil does not.
var prepare func(testing.TB, *broker.Config) //nolint:gochecknoglobals // set before any test runs

// Prepare has f change the broker's configuration of all that [New] makes, but in memory or if they are [Volatile]. It is to be
// called before the first test runs.
func Prepare(f func(testing.TB, *broker.Config)) { prepare = f }

// WithBroker changes the broker's configuration.
func WithBroker(change func(*broker.Config)) Option { return func(c *config) { change(&c.broker) } }

// WithServer changes the server's configuration. Broker is set already, and Keys is nil unless set here.
func WithServer(change func(*server.Config)) Option { return func(c *config) { change(&c.server) } }

// WithClock sets the clock of broker and server, which may jump.
func WithClock(now func() time.Time) Option {
	return func(c *config) {
		began := now()
		c.broker.Now, c.server.Now = func() time.Time { return began }, now
		c.broker.Elapsed = func() time.Duration { return now().Sub(began) }
	}
}

// WithDrain sets how long Close lets streams finish by themselves. Default: not at all.
func WithDrain(d time.Duration) Option { return func(c *config) { c.drain = d } }

// New starts a Bed that is closed when the test is over.
func New(tb testing.TB, options ...Option) *Bed {
	tb.Helper()
	b, err := Start(append(options, func(c *config) {
		if prepare != nil && !c.memory && !c.volatile {
			prepare(tb, &c.broker)
		}
	})...)
	if err != nil {
		tb.Fatalf("testbed.Start() = %v", err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Errorf("Bed.Close() = %v", err)
		}
	})
	return b
}

// Start starts a Bed. The caller closes it.
func Start(options ...Option) (*Bed, error) {
	var cfg config
	for _, o := range options {
		o(&cfg)
	}
	if cfg.relay = cfg.relay || relayflag.On(); cfg.relay && cfg.server.Peers == nil {
		cfg.server.Peers = &server.Peers{}
	}
	b := &Bed{served: make(chan error, 2), turn: make(chan struct{}, 1)}
	var err error
	if b.Broker, err = broker.Open(cfg.broker); err != nil {
		return nil, fmt.Errorf("open the broker: %w", err)
	}
	if cfg.server.Keys == nil {
		if cfg.server.Keys, err = handles.NewEphemeral(); err != nil {
			return nil, errors.Join(fmt.Errorf("make a key: %w", err), b.Broker.Close())
		}
	}
	b.Keys, cfg.server.Broker = cfg.server.Keys, b.Broker
	listener, err := b.listen(cfg.memory)
	if err != nil {
		return nil, errors.Join(err, b.Broker.Close())
	}
	if b.Owner, err = server.New(cfg.server); err != nil {
		return nil, errors.Join(err, listener.Close(), b.Broker.Close())
	}
	go func() { b.served <- b.Owner.Serve(listener) }()
	b.Server, b.OwnerAddr, b.owner = b.Owner, b.Addr, b.memory
	if cfg.relay {
		if err := b.relay(cfg); err != nil {
			b.Owner.Shutdown(context.Background())
			return nil, errors.Join(err, <-b.served, b.Broker.Close())
		}
	}
	b.close = sync.OnceValue(func() error { return b.shutdown(cfg.drain) })
	return b, nil
}

// relay puts a replica before the one that serves.
func (b *Bed) relay(cfg config) error {
	peers := *cfg.server.Peers
	peers.Dial = append(b.DialOptions(), peers.Dial...)
	if peers.MemoryLimit == 0 {
		peers.MemoryLimit = b.Broker.MemoryLimit()
	}
	cfg.server.Broker, cfg.server.Peers = nil, &peers
	var err error
	if b.Server, err = server.New(cfg.server); err != nil {
		return err
	}
	b.Server.Relay(strings.TrimPrefix(b.OwnerAddr, passthrough))
	listener, err := b.listen(cfg.memory)
	if err != nil {
		b.Server.Shutdown(context.Background())
		return err
	}
	go func() { b.served <- b.Server.Serve(listener) }()
	return nil
}

// passthrough begins targets that are not looked up.
const passthrough = "passthrough:///"

func (b *Bed) listen(memory bool) (net.Listener, error) {
	if memory {
		b.memory = &memoryListener{bufconn.Listen(1 << 20), b.turn}
		b.Addr = passthrough + "testbed"
		return b.memory, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	b.Addr = l.Addr().String()
	return l, nil
}

// DialOptions are what a gRPC client needs to reach Addr.
func (b *Bed) DialOptions() []grpc.DialOption { return dialOptions(b.memory) }

func dialOptions(memory *memoryListener) []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if memory != nil {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return memory.DialContext(ctx)
		}))
	}
	return options
}

// DialMemory makes a bare connection to a Bed that is [InMemory], for those who put something in between.
func (b *Bed) DialMemory(ctx context.Context) (net.Conn, error) { return b.memory.DialContext(ctx) }

// Dial makes a connection of its own, which the Bed closes with itself.
func (b *Bed) Dial(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return b.dial(b.Addr, append(b.DialOptions(), options...))
}

// DialOwner does so to the server that serves, if it is [Relayed] with nothing in between.
func (b *Bed) DialOwner(options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return b.dial(b.OwnerAddr, append(dialOptions(b.owner), options...))
}

func (b *Bed) dial(address string, options []grpc.DialOption) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, fmt.Errorf("dial the testbed: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, conn)
	return conn, nil
}

// Close ends everything, once: it drains as long as [WithDrain] says, then stops. It reports what Serve returned.
func (b *Bed) Close() error { return b.close() }

func (b *Bed) shutdown(drain time.Duration) error {
	// Shutdown drains for two thirds of its time.
	ctx, cancel := context.WithTimeout(context.Background(), drain*3/2+10*time.Second)
	defer cancel()
	if drain == 0 {
		b.mu.Lock()
		for _, conn := range b.conns {
			_ = conn.Close() // closing twice is an error of no interest
		}
		b.mu.Unlock()
	}
	b.Server.Shutdown(ctx)
	err := <-b.served
	if b.Owner != b.Server {
		b.Owner.Shutdown(ctx)
		err = errors.Join(err, <-b.served)
	}
	err = errors.Join(err, b.Broker.Close())
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.conns {
		_ = conn.Close() // as above
	}
	return err
}
