package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/buffers"
)

// Config says how a server behaves. Keys are required, and Broker or Peers; all else has useful zero values.
type Config struct {
	// Broker does the work. It stays the caller's: [Server.Shutdown] ends its pipes, and does not close it.
	Broker *broker.Broker
	// Peers are for a server that is one of several replicas. Then Broker may be nil: see [Server.Own] and [Server.Relay].
	Peers *Peers
	// Keys mint and verify handles.
	Keys *handles.KeyRing
	// APIKeys say who callers are. Default: all callers are the principal "anonymous" of the tenant "default".
	APIKeys *APIKeys
	// Logger gets a line per call. Default: none.
	Logger *slog.Logger
	// Version is what GetServerInfo tells. Default "dev".
	Version string
	// MaxPayload is the limit for payloads, in bytes. Default 1 MiB; at most 3 MiB.
	MaxPayload int
	// MaxPipeTimeout is the longest timeout of a pipe. Default 30 days with a journal, 24 h without.
	MaxPipeTimeout time.Duration
	// Durability says what a confirmed operation survives, by the broker's journal, and DurabilityDescription says it in
	// words. Default: nothing but the process's life.
	Durability            Durability
	DurabilityDescription string
	// MaxConnections is how many connections there may be; one too many is closed at once. Default 4,096.
	MaxConnections int
	// MaxConnectionsPerAddress is how many of them may come from one address. Default: no bound.
	MaxConnectionsPerAddress int
	// NoReflection leaves out the reflection service, without which grpcurl needs the proto file.
	NoReflection bool
	// Journal tells figures of the broker's journal, in a second or so, also while nothing is kept. Default: there is none.
	Journal func(ctx context.Context) JournalFigures
	// Cluster tells how a service of several replicas is, in 2 s at most, whether this server serves or not. Default: it is
	// not one of several.
	Cluster func(ctx context.Context) *queuepb.GetClusterResponse
	// Now is the clock. Default: the broker's.
	Now func() time.Time
}

// A Server serves the contract over gRPC. Make one with [New]; it is used once.
type Server struct {
	keys    *handles.KeyRing
	apiKeys *APIKeys
	log     *slog.Logger
	version string
	limits  limits
	clock   func() time.Time // Config.Now; nil for the broker's
	now     func() time.Time
	codec   *codec

	// placed says where calls are served. Without peers it never changes.
	placed atomic.Pointer[place]
	moving sync.Mutex // one change at a time
	peers  *Peers     // nil without
	ledger *ledger    // nil without peers
	hold   func(bytes int64)
	asking atomic.Int64 // calls with one answer that look for the owner, or wait for it

	journal               func(ctx context.Context) JournalFigures
	cluster               func(ctx context.Context) *queuepb.GetClusterResponse
	durability            Durability
	durabilityDescription string

	connections *connections
	forgeries   forgeries

	grpc   *grpc.Server
	health *health.Server
	// buffers are those of frames, for connections and sessions.
	buffers *buffers.Pool

	// running ends when streams have to, by stop; stopping is its Done. stopped is closed when nothing is left.
	running  context.Context
	stop     context.CancelFunc
	stopping <-chan struct{}
	stopped  chan struct{}
	// background are the goroutines of sessions, and the watchdog.
	background sync.WaitGroup

	mu       sync.Mutex
	sessions map[*session]struct{}
	relayed  map[*relayedSession]struct{}
	streams  int  // plain RPCs that stream
	unready  bool // as SetReady has said
	draining bool
	closed   bool          // stopping is closed
	idle     chan struct{} // made by Shutdown, closed when the last stream is gone
}

// service implements the generated interface. It is apart from Server so that Server's methods are few.
type service struct {
	queuepb.UnsafeQueueServiceServer
	*Server
}

// defaultMaxPayload and the others are the defaults of Config.
const (
	defaultMaxPayload     = 1 << 20
	defaultMaxPipeTimeout = 24 * time.Hour
	keptMaxPipeTimeout    = 30 * 24 * time.Hour
	frameLimit            = 4 << 20
)

// New returns a server that does not listen yet. It fails if the configuration contradicts itself.
func New(cfg Config) (*Server, error) {
	if cfg.Broker == nil && cfg.Peers == nil || cfg.Keys == nil {
		return nil, fmt.Errorf("server: Keys are required, and Broker or Peers")
	}
	if cfg.MaxPayload < 0 || cfg.MaxPayload > LargestPayload {
		return nil, fmt.Errorf("server: MaxPayload is %d: use at most %d, so that a message fits into what clients receive",
			cfg.MaxPayload, LargestPayload)
	}
	s := &Server{
		peers:    cfg.Peers,
		keys:     cfg.Keys,
		apiKeys:  cfg.APIKeys,
		log:      cfg.Logger,
		version:  cfg.Version,
		limits:   limits{payload: cfg.MaxPayload, frame: frameLimit, pipeTimeout: cfg.MaxPipeTimeout},
		clock:    cfg.Now,
		now:      cfg.Now,
		health:   health.NewServer(),
		buffers:  &buffers.Pool{},
		stopped:  make(chan struct{}),
		sessions: make(map[*session]struct{}),
		relayed:  make(map[*relayedSession]struct{}),
	}
	s.running, s.stop = context.WithCancel(context.Background())
	s.stopping = s.running.Done()
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.version == "" {
		s.version = "dev"
	}
	if s.limits.payload == 0 {
		s.limits.payload = defaultMaxPayload
	}
	s.journal, s.cluster = cfg.Journal, cfg.Cluster
	s.durability, s.durabilityDescription = cfg.Durability, cfg.DurabilityDescription
	if s.durability == InMemory {
		s.durabilityDescription = inMemory
	}
	if s.limits.pipeTimeout == 0 {
		s.limits.pipeTimeout = defaultMaxPipeTimeout
		if s.durability != InMemory {
			s.limits.pipeTimeout = keptMaxPipeTimeout
		}
	}
	s.place(&cfg)
	s.connections, s.forgeries.log = newConnections(&cfg, s.hold, s.log), s.log
	s.codec = newCodec(s.limits, s.buffers)
	s.grpc = grpc.NewServer(s.options()...)
	s.register(!cfg.NoReflection)
	s.background.Go(s.watch)
	return s, nil
}

// place puts the server where its broker is, if it has one.
func (s *Server) place(cfg *Config) {
	if s.now == nil {
		s.now = time.Now
		if cfg.Peers == nil {
			s.now = cfg.Broker.Now
		}
	}
	first := &place{changed: make(chan struct{})}
	if cfg.Broker != nil {
		first.tenure = s.newTenure(cfg.Broker)
	}
	if cfg.Peers == nil {
		s.hold = cfg.Broker.Hold
	} else {
		s.ledger = &ledger{}
		s.hold = s.ledger.hold
		s.ledger.move(first.tenure)
	}
	s.placed.Store(first)
}

// options are the settings of gRPC: bounds on what a client can make the server hold, and speed.
func (s *Server) options() []grpc.ServerOption {
	// Outermost first: the log sees the status that the client sees, a panic becomes a status, and so on inwards.
	report := interceptors.CommonReportableFunc(s.reporter)
	recoverer := recovery.WithRecoveryHandlerContext(s.panicked)
	needsIdentity := selector.MatchFunc(func(_ context.Context, meta interceptors.CallMeta) bool {
		return meta.Service != openService
	})
	return []grpc.ServerOption{
		experimental.BufferPool(s.buffers),
		grpc.ChainUnaryInterceptor(
			interceptors.UnaryServerInterceptor(report),
			s.unaryErrors,
			recovery.UnaryServerInterceptor(recoverer),
			selector.UnaryServerInterceptor(auth.UnaryServerInterceptor(s.authenticate), needsIdentity),
		),
		grpc.ChainStreamInterceptor(
			interceptors.StreamServerInterceptor(report),
			s.streamErrors,
			recovery.StreamServerInterceptor(recoverer),
			selector.StreamServerInterceptor(auth.StreamServerInterceptor(s.authenticate), needsIdentity),
		),
		grpc.ForceServerCodecV2(s.codec),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(8 << 20),
		grpc.MaxHeaderListSize(s.headerLimit()),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 15 * time.Minute, Time: 20 * time.Second, Timeout: 10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.StaticStreamWindowSize(1 << 20),
		grpc.StaticConnWindowSize(4 << 20),
		// A goroutine of its own would grow its stack for each plain RPC, a tenth of what such a call costs.
		grpc.NumStreamWorkers(256),
		grpc.WaitForHandlers(true),
		// A session's frames are tens of KiB when it is busy: fewer, larger writes. gRPC shares the buffers for
		// writing, so that idle connections hold none.
		grpc.WriteBufferSize(64 << 10),
		// Those for reading are each connection's own, also while it is idle.
		grpc.ReadBufferSize(32 << 10),
	}
}

// headerLimit is what all headers of a call may come to.
func (s *Server) headerLimit() uint32 {
	const limit, relaying = 8 << 10, 1 << 10
	if s.peers != nil {
		return limit + relaying // what replicas tell each other comes on top
	}
	return limit
}

// register puts the services into the gRPC server.
func (s *Server) register(withReflection bool) {
	queues, admin := &queuepb.QueueService_ServiceDesc, &queuepb.AdminService_ServiceDesc
	if s.peers != nil {
		queues, admin = s.anywhere(queues), s.anywhere(admin)
	}
	s.grpc.RegisterService(queues, &service{Server: s})
	s.grpc.RegisterService(admin, &adminService{Server: s})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	s.SetReady(true)
	if withReflection {
		reflection.Register(s.grpc)
	}
}

// Serve serves on a listener until [Server.Shutdown], and then returns nil. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(s.connections.listen(l)); err != nil && !s.isDraining() {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
