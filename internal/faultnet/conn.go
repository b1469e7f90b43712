// Package faultnet makes connections fail as networks do: bytes come in pieces and late, a connection stalls or is cut
// in the midst of a frame, or swallows all that is sent without ever saying so. Tests put a [Dialer] between a client
// and a server.
//
// What fails, and after how many bytes, is said by a [Plan] for each connection, so that the same plans give the same
// faults. Time is the package time's: in testing/synctest it is the bubble's.
package faultnet

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Plan says how a connection behaves, seen from the side that dialled. The zero Plan is a good connection.
type Plan struct {
	// Out is the way to the server, In the way back.
	Out, In Way
}

// A Way is one direction of a connection.
type Way struct {
	// Piece is the most bytes that pass at once. Default: no limit.
	Piece int
	// Delay is how long each piece takes. Default 0.
	Delay time.Duration
	// Faults happen one after the other, by rising After.
	Faults []Fault
}

// A Fault happens when so many bytes have passed.
type Fault struct {
	// After is how many bytes pass before it, counted from the connection's beginning.
	After int64
	// Stall is how long nothing passes. 0: the connection is cut, both ways and for good.
	Stall time.Duration
}

// errCut is the error of a connection that was cut by a fault.
var errCut = errors.New("faultnet: the connection was cut")

// A Conn is a connection that fails by plan.
type Conn struct {
	net.Conn
	out, in way

	swallow atomic.Bool
	closing sync.Once
	closed  chan struct{}
	err     error // of closing
}

// way is a direction at work. One goroutine at a time uses it, as net.Conn's users do.
type way struct {
	Way
	passed atomic.Int64
}

// Wrap makes a connection fail by plan.
func Wrap(conn net.Conn, plan Plan) *Conn {
	c := &Conn{Conn: conn, closed: make(chan struct{})}
	c.out.Way, c.in.Way = plan.Out, plan.In
	return c
}

// Passed returns how many bytes have passed either way.
func (c *Conn) Passed() (out, in int64) { return c.out.passed.Load(), c.in.passed.Load() }

// Swallow makes the connection half-open: what is sent vanishes, nothing comes, and neither side is told.
func (c *Conn) Swallow() { c.swallow.Store(true) }

// Cut ends the connection. On TCP the other side sees a reset, and what was under way is lost.
func (c *Conn) Cut() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only if it is closed already
	}
	_ = c.Close() // likewise
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		close(c.closed)
		c.err = c.Conn.Close()
	})
	return c.err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		size, err := c.next(&c.out, len(p))
		if err != nil {
			return n, err
		}
		if c.swallow.Load() {
			return n + len(p), nil
		}
		written, err := c.Conn.Write(p[:size])
		c.out.passed.Add(int64(written))
		n += written
		if err != nil {
			return n, err
		}
		p = p[written:]
	}
	return n, nil
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	size, err := c.next(&c.in, len(p))
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p[:size])
	if c.swallow.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	c.in.passed.Add(int64(n))
	return n, err
}

// next waits as the plan says and returns how many of the n bytes pass now; never 0 without an error, unless n is 0.
func (c *Conn) next(w *way, n int) (int, error) {
	for len(w.Faults) > 0 && w.passed.Load() >= w.Faults[0].After {
		fault := w.Faults[0]
		w.Faults = w.Faults[1:]
		if fault.Stall == 0 {
			c.Cut()
			return 0, errCut
		}
		if err := c.sleep(fault.Stall); err != nil {
			return 0, err
		}
	}
	if err := c.sleep(w.Delay); err != nil {
		return 0, err
	}
	if w.Piece > 0 {
		n = min(n, w.Piece)
	}
	if len(w.Faults) > 0 {
		n = int(min(int64(n), w.Faults[0].After-w.passed.Load()))
	}
	return n, nil
}

func (c *Conn) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}
