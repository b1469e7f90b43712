package server

import (
	"errors"
	"log/slog"
	"net"
	"sync"
)

// connections bounds how many connections a server has, in all and from one address. One too many is closed at once, so
// that its client knows, and tries again later by itself.
type connections struct {
	most       int
	perAddress int // 0: no bound
	log        *slog.Logger
	hold       func(bytes int64) // counts memory
	arrivals   *arrivals         // nil without a memory limit
	peers      bool              // some connections may be those of other replicas

	mu        sync.Mutex
	open      int
	byAddress map[string]int // nil unless there is a bound
	refusing  bool           // so that the log has one line until there is room again
}

const defaultMaxConnections = 4096

// connectionSize is about what a connection takes of the process: goroutines, and gRPC's buffer for reading.
const connectionSize = 96 << 10

func newConnections(cfg *Config, hold func(int64), log *slog.Logger) *connections {
	c := &connections{most: cfg.MaxConnections, perAddress: cfg.MaxConnectionsPerAddress, log: log, hold: hold, peers: cfg.Peers != nil}
	if c.most == 0 {
		c.most = defaultMaxConnections
	}
	var limit int64
	if cfg.Broker != nil {
		limit = cfg.Broker.MemoryLimit()
	} else {
		limit = cfg.Peers.MemoryLimit
	}
	if limit > 0 {
		c.arrivals = newArrivals(limit, c.hold, log)
	}
	if c.perAddress > 0 {
		c.byAddress = make(map[string]int)
	}
	return c
}

// listen bounds the connections of a listener.
func (c *connections) listen(l net.Listener) net.Listener { return &boundedListener{l, c} }

// enter counts a connection from an address, and reports whether there is room for it.
func (c *connections) enter(address string) bool {
	c.mu.Lock()
	ok := c.open < c.most && (c.byAddress == nil || c.byAddress[address] < c.perAddress)
	first := !ok && !c.refusing
	c.refusing = !ok
	open := c.open
	if ok {
		c.open++
		if c.byAddress != nil {
			c.byAddress[address]++
		}
	}
	c.mu.Unlock()
	if first {
		c.log.Warn("connections are refused: there are as many as --max-connections or --max-connections-per-address allow",
			slog.Int("open", open), slog.String("address", address))
	}
	if ok {
		c.hold(connectionSize)
	}
	return ok
}

func (c *connections) leave(address string) {
	c.mu.Lock()
	c.open--
	if c.byAddress != nil {
		if c.byAddress[address]--; c.byAddress[address] == 0 {
			delete(c.byAddress, address)
		}
	}
	c.mu.Unlock()
	c.hold(-connectionSize)
}

type boundedListener struct {
	net.Listener
	connections *connections
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := hostOf(conn.RemoteAddr())
		if !l.connections.enter(address) {
			_ = conn.Close() // whatever becomes of it
			continue
		}
		return l.connections.counted(conn, address), nil
	}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// A countedConn tells when it is closed, and how much of messages that are not complete has come over it.
type countedConn struct {
	net.Conn
	left func()
	addr *countedAddr // nil if nobody asks for it
	meter
}

// A countedAddr is the address of a connection that may be another replica's.
type countedAddr struct {
	net.Addr
	conn *countedConn
}

// RemoteAddr implements net.Conn.
func (c *countedConn) RemoteAddr() net.Addr {
	if c.addr != nil {
		return c.addr
	}
	return c.Conn.RemoteAddr()
}

func (c *connections) counted(conn net.Conn, address string) *countedConn {
	counted := &countedConn{Conn: conn, meter: meter{
		arrivals: c.arrivals, unframer: unframer{skip: clientPreface}, gone: make(chan struct{}),
	}}
	if c.peers {
		counted.addr = &countedAddr{conn.RemoteAddr(), counted}
	}
	counted.left = sync.OnceFunc(func() {
		if c.arrivals != nil {
			counted.stop()
		}
		c.leave(address)
	})
	return counted
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	if c.arrivals == nil {
		return c.Conn.Read(p)
	}
	return c.read(p)
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.left()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
