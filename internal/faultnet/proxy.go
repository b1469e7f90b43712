package faultnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Proxy stands between clients and a server that are programs of their own. Its dialer makes the connections fail. Its
// methods may be called from any goroutine.
type Proxy struct {
	*Dialer
	listen net.Listener
	ctx    context.Context //nolint:containedctx // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	holding sync.Mutex
	held    [2]chan struct{} // by direction; closed at Release, nil while bytes pass
}

// A Direction is that of bytes in a [Proxy].
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// Listen starts a proxy on a free port of this machine. Close it in the end.
func Listen(target string) (*Proxy, error) {
	return ListenVia(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", target)
	})
}

// ListenVia is [Listen], with connections to the server that dial makes. A client whose connection it does not make sees a cut.
func ListenVia(dial func(context.Context) (net.Conn, error)) (*Proxy, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultnet: %w", err)
	}
	p := &Proxy{listen: listen, Dialer: &Dialer{Dial: dial}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

// Hold keeps the bytes of one direction back, in connections that are made later as well. All connections stay open. What is
// held when its connection is cut is lost.
func (p *Proxy) Hold(d Direction) {
	p.holding.Lock()
	defer p.holding.Unlock()
	if p.held[d] == nil {
		p.held[d] = make(chan struct{})
	}
}

// Release lets all that was held go on, and what comes later pass.
func (p *Proxy) Release() {
	p.holding.Lock()
	defer p.holding.Unlock()
	for d, held := range p.held {
		if held != nil {
			close(held)
		}
		p.held[d] = nil
	}
}

// Close ends the proxy and all its connections.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.listen.Close() // ends accept
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		in, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.pass(in) })
	}
}

// pass passes bytes on until either side is cut, and then cuts the other.
func (p *Proxy) pass(in net.Conn) {
	defer func() { _ = in.Close() }() // both ends of a connection that is over
	stop := context.AfterFunc(p.ctx, func() { _ = in.Close() })
	defer stop()
	dialled, err := p.DialContext(p.ctx, "")
	if errors.Is(err, errDown{}) {
		p.hang(in)
	}
	out, ok := dialled.(*Conn)
	if err != nil || !ok {
		return // the client sees a cut
	}
	defer func() { _ = out.Close() }()
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer func() { _ = in.Close() }()
		_, _ = io.Copy(in, &gate{p, ToClient, out, out}) // its error is the cut
	}()
	_, _ = io.Copy(out, &gate{p, ToServer, in, out})
	_ = out.Close()
	<-back
}

// A gate is what comes from one end of a connection, when it is not held.
type gate struct {
	proxy *Proxy
	way   Direction
	from  net.Conn
	conn  *Conn // whose cut ends the waiting
}

// Read implements io.Reader.
func (g *gate) Read(b []byte) (int, error) {
	n, err := g.from.Read(b)
	if err != nil {
		return n, err //nolint:wrapcheck // only io.Copy sees it
	}
	for {
		g.proxy.holding.Lock()
		held := g.proxy.held[g.way]
		g.proxy.holding.Unlock()
		if held == nil {
			break
		}
		select {
		case <-held:
		case <-g.conn.closed:
			return 0, errCut
		case <-g.proxy.ctx.Done():
			return 0, errCut
		}
	}
	select {
	case <-g.conn.closed: // while it was held
		return 0, errCut
	default:
		return n, nil
	}
}

// hang leaves a connection without an answer until the network is back.
func (p *Proxy) hang(in net.Conn) {
	c := Wrap(in, Plan{})
	c.Swallow()
	p.mu.Lock()
	if p.down {
		p.conns = append(p.conns, c)
	} else {
		c.Cut()
	}
	p.mu.Unlock()
	_, _ = io.Copy(io.Discard, c)
}
