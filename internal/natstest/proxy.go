package natstest

import (
	"net"
	"sync"
	"testing"
)

// A Proxy is a way to a server that can be held and cut. It ends with the test.
type Proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond
	held   [2]bool // by direction
	conns  map[net.Conn]bool
	closed bool
}

// A Direction is that of bytes in a [Proxy].
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// NewProxy makes a proxy in front of a node.
func NewProxy(t testing.TB, n *Node) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed with the test
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: n.Address(), listener: l, conns: map[net.Conn]bool{}}
	p.change = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// URL is where clients find the server through the proxy.
func (p *Proxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Hold keeps bytes of one direction back, until they are released or cut.
func (p *Proxy) Hold(d Direction) { p.set(func() { p.held[d] = true }) }

// Release lets all that was held go on.
func (p *Proxy) Release() { p.set(func() { p.held = [2]bool{} }) }

// Cut ends all connections. What was held is lost; new connections are not held.
func (p *Proxy) Cut() {
	p.set(func() {
		for c := range p.conns {
			_ = c.Close()
		}
		clear(p.conns)
		p.held = [2]bool{}
	})
}

func (p *Proxy) close() {
	p.set(func() { p.closed = true })
	_ = p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.change.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target) //nolint:noctx // to this machine
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.add(client, server) {
			return
		}
		p.wg.Go(func() { p.copy(server, client, ToServer) })
		p.wg.Go(func() { p.copy(client, server, ToClient) })
	}
}

// add notes two ends, unless the proxy was closed.
func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.conns[c] = true; p.closed {
			_ = c.Close()
		}
	}
	return !p.closed
}

func (p *Proxy) copy(to, from net.Conn, d Direction) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !p.pass(from, d) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// pass waits while a direction is held, and says whether the connection is still there.
func (p *Proxy) pass(c net.Conn, d Direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held[d] && p.conns[c] {
		p.change.Wait()
	}
	return p.conns[c]
}
