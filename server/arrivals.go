package server

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// arrivals bounds what has come of messages that are not complete: gRPC keeps that, for each stream, and lets every
// stream have a whole message, whatever the others have. Here each connection reads the framing of what it passes on to
// gRPC, and so knows how much that is. When all have more than is good, those with large messages under way take turns,
// so that one after the other gets complete; and who is slow then is cut.
type arrivals struct {
	most int64 // 0: no bound
	each int64 // of one connection
	log  *slog.Logger
	hold func(bytes int64) // counts memory

	total atomic.Int64
	turn  chan struct{} // has one element, for whoever may read on

	mu    sync.Mutex
	conns map[*countedConn]struct{} // that have large messages under way
}

const (
	// freeArrival is what a connection may have under way in any case.
	freeArrival = 64 << 10
	// arrivalShare is the part of the memory limit that messages on their way may take.
	arrivalShare = 8
	// One connection may have a quarter of the memory limit under way, within these bounds.
	leastOfConnection = 64 << 20
	mostOfConnection  = 256 << 20
	// turnLimit is how long a message may take when others wait for their turn.
	turnLimit = 10 * time.Second
)

var errTooSlow = errors.New("a message took too long while memory for others was short")

func newArrivals(limit int64, hold func(int64), log *slog.Logger) *arrivals {
	a := &arrivals{most: limit / arrivalShare, hold: hold, log: log, turn: make(chan struct{}, 1), conns: make(map[*countedConn]struct{})}
	a.each = min(max(limit/4, leastOfConnection), mostOfConnection)
	a.turn <- struct{}{}
	return a
}

// short reports whether there is more under way than is good.
func (a *arrivals) short() bool { return a.total.Load() > a.most }

func (a *arrivals) add(bytes int64) {
	a.total.Add(bytes)
	a.hold(bytes)
}

// note tells that a connection has large messages under way, or not any more.
func (a *arrivals) note(c *countedConn, large bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if large {
		a.conns[c] = struct{}{}
	} else {
		delete(a.conns, c)
	}
}

// cutSlow closes the connections whose large messages have been under way for too long.
func (a *arrivals) cutSlow(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.conns {
		if since := c.large.Load(); since != 0 && now.Sub(time.Unix(0, since)) > turnLimit && !c.trusted.Load() {
			a.log.Debug("connection cut: its message took too long while memory was short", slog.String("peer", c.RemoteAddr().String()))
			_ = c.Conn.Close() // its reader finds out, and closes the rest
		}
	}
}

// await waits for the turn of a connection. Meanwhile it is not the slow one.
func (a *arrivals) await(c *countedConn) error {
	c.large.Store(0)
	defer func() { c.large.Store(time.Now().UnixNano()) }()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for waited := 0; a.short(); waited++ {
		select {
		case <-a.turn:
			c.takeTurn()
			return nil
		case now := <-look.C:
			a.cutSlow(now)
		case <-c.gone:
			return errTooSlow
		}
	}
	return nil
}

// A meter is a connection's part of it. All but Close is for the goroutine that reads.
type meter struct {
	arrivals *arrivals
	unframer unframer
	seen     int64         // unframer.bytes when it was counted last
	large    atomic.Int64  // since when there is more under way than is free, in Unix nanoseconds; 0 if there is not
	gone     chan struct{} // closed with the connection
	inTurn   bool
	// trusted says that the connection is another replica's, which has many clients and bounds each of theirs.
	trusted atomic.Bool

	mu      sync.Mutex
	counted int64 // of arrivals.total
	hasTurn bool  // the turn is still to be given back
	closed  bool
}

// read reads from a connection, when it may.
func (c *countedConn) read(p []byte) (int, error) {
	a := c.arrivals
	if c.seen > freeArrival && !c.inTurn && a.short() && !c.trusted.Load() {
		if err := a.await(c); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	c.unframer.read(p[:n])
	if c.unframer.bytes != c.seen {
		c.count(c.unframer.bytes)
	}
	if c.inTurn && (err != nil || c.seen <= freeArrival || !a.short()) {
		c.inTurn = false
		c.leaveTurn()
		_ = c.Conn.SetReadDeadline(time.Time{}) // if it fails the connection has ended
	}
	if err == nil && (c.seen > a.each || len(c.unframer.open) > maxOpenMessages) && !c.trusted.Load() {
		return n, errTooMuch
	}
	return n, err
}

// maxOpenMessages is how many streams of a connection may have messages under way: more than there may be streams.
const maxOpenMessages = 4 * maxStreams

var errTooMuch = errors.New("too many messages under way on a connection")

// count counts what is under way now.
func (c *countedConn) count(bytes int64) {
	if was, is := c.seen > freeArrival, bytes > freeArrival; was != is {
		c.large.Store(0)
		if is {
			c.large.Store(time.Now().UnixNano())
		}
		c.arrivals.note(c, is)
	}
	c.seen = bytes
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.arrivals.add(bytes - c.counted)
		c.counted = bytes
	}
}

// takeTurn notes that the connection has the turn, for a while.
func (c *countedConn) takeTurn() {
	c.inTurn = true
	_ = c.Conn.SetReadDeadline(time.Now().Add(turnLimit)) // as in read
	c.mu.Lock()
	c.hasTurn = true
	closed := c.closed
	c.mu.Unlock()
	if closed {
		c.leaveTurn()
	}
}

// leaveTurn gives the turn back, once.
func (c *countedConn) leaveTurn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasTurn {
		c.hasTurn = false
		c.arrivals.turn <- struct{}{}
	}
}

// stop takes off what the connection had. Whoever closes a connection may be another goroutine than that which reads.
func (c *countedConn) stop() {
	c.leaveTurn()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.arrivals.add(-c.counted)
	c.counted = 0
	c.arrivals.note(c, false)
	close(c.gone)
}
