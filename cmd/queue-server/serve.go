package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/server"
)

type serveCmd struct {
	Listen       string        `default:"127.0.0.1:7420" env:"REPLYQ_LISTEN" placeholder:"HOST:PORT" help:"Where to listen (${default}). Port 0 takes a free one, which the log tells."`
	APIKeys      string        `name:"api-keys" env:"REPLYQ_API_KEYS" placeholder:"FILE" help:"File of API keys, see new-api-key. Without it anybody who can connect is the tenant \"default\"."`
	KeyFile      string        `env:"REPLYQ_KEY_FILE" placeholder:"FILE" help:"File of the keys that sign handles, see new-key. Without it those of the data directory are used; without that handles die with the process."`
	ClusterName  string        `default:"replyq" env:"REPLYQ_CLUSTER_NAME" placeholder:"NAME" help:"Servers with other names refuse each other's handles although they share a key file (${default})."`
	DrainTimeout time.Duration `default:"30s" env:"REPLYQ_DRAIN_TIMEOUT" placeholder:"TIME" help:"How long a stop may take; clients have two thirds of it to finish (${default})."`
	LogLevel     slog.Level    `default:"info" env:"REPLYQ_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error; at debug every call has a line, at info those that failed (${default})."`
	LogFormat    string        `enum:"text,json" default:"text" env:"REPLYQ_LOG_FORMAT" placeholder:"FORMAT" help:"text or json (${default})."`
	NoAutoCreate bool          `env:"REPLYQ_NO_AUTO_CREATE" help:"Refuse queues that were not created, instead of making them on first use."`
	NoReflection bool          `env:"REPLYQ_NO_REFLECTION" help:"Leave out gRPC reflection; grpcurl then needs queue.proto."`
	MaxPayload   byteSize      `default:"1MiB" env:"REPLYQ_MAX_PAYLOAD" placeholder:"SIZE" help:"Limit for payloads, at most 3MiB (${default})."`

	DataDir       string        `env:"REPLYQ_DATA_DIR" placeholder:"DIR" help:"Keep everything in this directory, so that it survives; made if it does not exist. Without it nothing does."`
	FsyncInterval time.Duration `env:"REPLYQ_FSYNC_INTERVAL" placeholder:"TIME" help:"Confirm without waiting for the disk, and fsync this often: a power cut loses what came since. Default: fsync before each confirmation."`
	MinFreeSpace  byteSize      `env:"REPLYQ_MIN_FREE_SPACE" placeholder:"SIZE" help:"With less room on the disk, new messages and pipes are refused (a twentieth of the file system, 128MiB to 2GiB)."`
	Shards        int           `env:"REPLYQ_SHARDS" placeholder:"N" help:"How many parts queues are spread over; fixed when a data directory, or a service in NATS, is made (what it has; for a new one 1, and in NATS 8)."`
	AllowTmpfs    bool          `env:"REPLYQ_ALLOW_TMPFS" help:"Take a data directory in memory, which survives the process and not the machine. For tests."`

	natsFlags
	Node        string `env:"REPLYQ_NODE" placeholder:"NAME" help:"This replica's name, which no other has (the host's name)."`
	PeerAddress string `env:"REPLYQ_PEER_ADDRESS" placeholder:"HOST:PORT" help:"Where the other replicas reach this one (that of --listen, or the host's name and that port)."`

	MemoryLimit              byteSize `env:"REPLYQ_MEMORY_LIMIT" placeholder:"SIZE" help:"Memory that the server may take: near it new messages and pipes are refused (75 % of the container's or machine's)."`
	MaxConnections           int      `default:"4096" env:"REPLYQ_MAX_CONNECTIONS" placeholder:"N" help:"Connections at a time (${default})."`
	MaxConnectionsPerAddress int      `env:"REPLYQ_MAX_CONNECTIONS_PER_ADDRESS" placeholder:"N" help:"Of those, from one address (no bound)."`
	TenantBytes              byteSize `env:"REPLYQ_TENANT_BYTES" placeholder:"SIZE" help:"Memory that what one tenant has stored may take (no bound of its own)."`
	TenantPipes              int64    `default:"2000000" env:"REPLYQ_TENANT_PIPES" placeholder:"N" help:"Open pipes of one tenant (${default})."`
	TenantSessions           int64    `env:"REPLYQ_TENANT_SESSIONS" placeholder:"N" help:"Session streams of one tenant (no bound)."`
}

// Validate is called when the command line has been read.
func (c *serveCmd) Validate() error {
	if c.MaxPayload > server.LargestPayload {
		return fmt.Errorf("--max-payload is %d bytes: use at most %d, so that a message fits into what clients receive",
			c.MaxPayload, server.LargestPayload)
	}
	if c.MaxConnections < 1 || c.MaxConnectionsPerAddress < 0 || c.TenantPipes < 1 || c.TenantSessions < 0 {
		return errors.New("--max-connections and --tenant-pipes are at least 1, the other bounds at least 0, which is none")
	}
	if c.MemoryLimit > 0 && c.MemoryLimit < leastMemory {
		return fmt.Errorf("--memory-limit is %d bytes: the server does not run well with less than 64MiB", c.MemoryLimit)
	}
	if c.DataDir == "" && (c.FsyncInterval != 0 || c.MinFreeSpace != 0 || c.AllowTmpfs) {
		return errors.New("--fsync-interval, --min-free-space and --allow-tmpfs are about --data-dir, which is not set")
	}
	if c.FsyncInterval < 0 || c.FsyncInterval > time.Minute {
		return errors.New("--fsync-interval is 1ms to 1m, or 0 for an fsync before each confirmation")
	}
	if c.Shards < 0 || c.Shards > maxShards {
		return fmt.Errorf("--shards is 1 to %d", maxShards)
	}
	return c.validateReplica()
}

// maxShards is more than is of use on one machine.
const maxShards = 256

// leastMemory is the least that --memory-limit may be.
const leastMemory = 64 << 20

// Run serves until a signal.
func (c *serveCmd) Run(std streams, code *int) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	return c.serve(std, signals, code)
}

// gcPercent makes the collector run less often than by default: little of what a busy server allocates lives long, and
// what lives is small beside it. GOGC in the environment overrides it.
const gcPercent = 400

// reload reads both files of keys again. What is wrong leaves the old keys in force.
func (c *serveCmd) reload(log *slog.Logger, keyFile string, keys *handles.KeyRing, apiKeys *server.APIKeys) {
	if keyFile != "" {
		file, err := readSecret(keyFile)
		if err == nil {
			err = keys.Replace(file)
		}
		logReload(log, keyFile, err)
	}
	if c.APIKeys != "" {
		file, err := os.ReadFile(c.APIKeys)
		if err == nil {
			err = apiKeys.Replace(file)
		}
		logReload(log, c.APIKeys, err)
	}
}

func logReload(log *slog.Logger, file string, err error) {
	if err != nil {
		log.Error("keys not read again: the old ones stay", slog.String("file", file), slog.Any("error", err))
		return
	}
	log.Info("keys read again", slog.String("file", file))
}

// announce tells what is running, and what about it an operator should know.
func (c *serveCmd) announce(log *slog.Logger, addr net.Addr, srv *server.Server, apiKeys *server.APIKeys, memory int64) {
	log.Info("serving",
		slog.String("address", addr.String()),
		slog.String("version", version),
		slog.String("durability_class", srv.Durability().String()),
		slog.String("durability", srv.DurabilityDescription()),
		slog.Int64("memory_limit", memory))
	if c.KeyFile == "" && c.DataDir == "" {
		log.Warn("handles are signed with a key that dies with this process: after a restart they are refused; " +
			"--key-file keeps them, queue-server new-key makes one")
	}
	if loopback(addr) {
		return
	}
	if apiKeys == nil {
		log.Warn("anybody who reaches this address can use every queue: --api-keys asks for keys, or listen on 127.0.0.1",
			slog.String("address", addr.String()))
		return
	}
	log.Warn("API keys and handles cross the network unencrypted: put a TLS proxy in front, or a private network around",
		slog.String("address", addr.String()))
}

func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func (c *serveCmd) logger(std streams) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(std.err, options))
	}
	return slog.New(slog.NewTextHandler(std.err, options))
}

// keysIn reads a file of the keys that sign handles; without one it makes a key that dies with the process.
func (c *serveCmd) keysIn(file string) (*handles.KeyRing, error) {
	if file == "" {
		return handles.NewEphemeral()
	}
	text, err := readSecret(file)
	if err != nil {
		return nil, err
	}
	keys, err := handles.ParseKeys(c.ClusterName, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// readAPIKeys reads the file of API keys; nil without one.
func (c *serveCmd) readAPIKeys() (*server.APIKeys, error) {
	if c.APIKeys == "" {
		return nil, nil
	}
	file, err := os.ReadFile(c.APIKeys)
	if err != nil {
		return nil, err
	}
	keys, err := server.ParseAPIKeys(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.APIKeys, err)
	}
	return keys, nil
}

// readSecret reads a file of keys that sign handles, which others must not be able to read. Files of API keys hold only
// hashes.
func readSecret(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s: everybody can read or write it (%s): chmod 600 %s", name, info.Mode().Perm(), name)
	}
	return os.ReadFile(name)
}

// byteSize is a number of bytes, written like 1048576, 512KiB, 1MiB or 8GiB.
type byteSize int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *byteSize) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for suffix, n := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if cut, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = cut, n
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > 1<<50/unit {
		return fmt.Errorf("%q is no size: write bytes, or a number with KiB, MiB or GiB", text)
	}
	*b = byteSize(n * unit)
	return nil
}
