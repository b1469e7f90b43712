package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Options say where the NATS cluster is and what is kept there.
type Options struct {
	URL         string // of one or more servers, with commas between
	Name        string // of the service: several may share a cluster. "" is "main"
	Shards      int    // how many, fixed when the stream is made; 0 is what it has, and 8 for a new one
	Replicas    int    // of the stream, fixed when it is made; 0 is 3
	Credentials string // file with the user's credentials
	CA          string // file with the authorities that vouch for the servers
	Cert, Key   string // files with the client's certificate and key
	Node        string // this replica's name

	// Number is the store's: a new stream gets it, and one that is there must have it. 0: a new stream draws one.
	Number uint32
	// Fill makes a service that nobody can use before [Store.Filled] was called; one of the same number that was begun like
	// this and not finished is made anew.
	Fill bool

	Log *slog.Logger // nil: nothing is logged
}

const (
	mostPart       = 1<<20 - 4<<10 // bytes of a batch in one message: with all headers it has less than leastPayload
	keptMemory     = 1 << 20       // bytes of a message's memory that are kept for the next one
	defaultShards  = 8
	leastPayload   = 1 << 20               // what max_payload has to be at least: what servers have by themselves
	tryTimeout     = 2 * time.Second       // of one try of what is tried again
	requestTimeout = 5 * time.Second       // of a read or an administrative request
	leastPause     = 20 * time.Millisecond // between two tries, doubled each time
	mostPause      = time.Second
	openTold       = 2 * time.Second // between two lines of the log that say what Open waits for
	lagLimit       = 64 << 20        // bytes behind a shard that holds the head of the stream back
)

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`) //nolint:gochecknoglobals // compiled once

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "main"
	}
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// servers is the URL without passwords and tokens.
func (o Options) servers() string {
	servers := strings.Split(o.URL, ",")
	for i, s := range servers {
		_, host, found := strings.Cut(s, "@")
		if found {
			servers[i] = host
		}
	}
	return strings.Join(servers, ",")
}

// connection has what the store's own connection has.
func (s *Store) connection(denied func(error)) []nats.Option {
	log := s.options.Log
	return append(s.options.identity(),
		nats.ReconnectToServer(s.choice.choose),
		nats.ReconnectBufSize(-1), // what is sent while disconnected fails at once, and is repeated by whoever sent it
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.PingInterval(2*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(2*time.Second),
		nats.IgnoreAuthErrorAbort(), // credentials may be mended, and the connection with them
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("NATS tells of an error", "error", err)
			if errors.Is(err, nats.ErrPermissionViolation) {
				denied(err)
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			s.link.lost()
			if err != nil { // nil: it was closed here
				log.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("connected to NATS again", "server", c.ConnectedServerName()) }),
	)
}

// identity is how each of the store's connections shows who it is, and finds out who it talks to.
func (o Options) identity() []nats.Option {
	opts := []nats.Option{nats.Name("replyq " + o.Node)}
	if o.Credentials != "" {
		opts = append(opts, nats.UserCredentials(o.Credentials))
	}
	if o.CA != "" {
		opts = append(opts, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		opts = append(opts, nats.ClientCert(o.Cert, o.Key))
	}
	return opts
}

// random draws a number.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
