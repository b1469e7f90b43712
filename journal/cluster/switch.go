package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrNoVisit says that no NATS server has taken a connection beside the store's own.
var ErrNoVisit = errors.New("no NATS server takes a second connection")

// Switch looks for a NATS server that is of use, and has the store's connection go there: it connects to each that is known,
// all at the same time, and the first one where works returns no error is it. It returns that one's name; "" if there is
// none, and then nothing changes; with [ErrNoVisit] if it could not look at any of them. It does not return before the last
// server has answered, or ctx has ended. What is under way on the store's connection is lost, as with each reconnect, and
// sent again.
func (s *Store) Switch(ctx context.Context, works func(context.Context, *nats.Conn) error) (name string, _ error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type found struct {
		host, name string // empty: it is of no use
		visited    bool
	}
	servers := s.conn.Servers()
	tries := make(chan found, len(servers))
	for _, server := range servers {
		go func() {
			var f found
			defer func() { tries <- f }()
			u, err := url.Parse(server)
			if err != nil {
				return // unreachable: the connection has parsed it before
			}
			conn, err := s.options.visit(ctx, u)
			if err != nil {
				return
			}
			defer conn.Close()
			f.visited = true
			if works(ctx, conn) == nil {
				f.host, f.name = u.Host, conn.ConnectedServerName()
			}
		}()
	}
	failed := ErrNoVisit
	for range servers {
		f := <-tries
		if f.visited && errors.Is(failed, ErrNoVisit) {
			failed = nil
		}
		if f.host == "" || name != "" {
			continue
		}
		cancel()
		name = f.name
		s.choice.host.Store(&f.host)
		if err := s.conn.ForceReconnect(); err != nil {
			failed = fmt.Errorf("cluster: connect to the NATS server %s: %w", f.name, err)
		}
	}
	return name, failed
}

// visit connects to one server for a moment.
func (o Options) visit(ctx context.Context, u *url.URL) (*nats.Conn, error) {
	patience := askTime
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline)
	}
	u.User = o.user(u.Host)
	conn, err := nats.Connect(u.String(), append(o.identity(), nats.Timeout(patience), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		return nil, fmt.Errorf("cluster: connect to the NATS server %s: %w", u.Host, err)
	}
	return conn, nil
}

// user is what the URLs have for a server: or, for one that others have told of, for the first.
func (o Options) user(host string) *url.Userinfo {
	var first *url.Userinfo
	for address := range strings.SplitSeq(o.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.User == nil {
			continue
		}
		if u.Host == host {
			return u.User
		}
		if first == nil {
			first = u.User
		}
	}
	return first
}

// A choice is the server that a connection goes to next, if somebody has chosen one.
type choice struct{ host atomic.Pointer[string] }

// choose is a [nats.ReconnectToServerHandler]. A server that was chosen is tried once.
func (c *choice) choose(servers []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
	if host := c.host.Swap(nil); host != nil {
		for i := range servers {
			if servers[i].URL.Host == *host {
				return &servers[i], 0
			}
		}
	}
	return nil, 0
}
