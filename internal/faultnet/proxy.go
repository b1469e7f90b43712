package faultnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Proxy stands between clients and a server that are programs of their own. Its dialer makes the connections fail.
type Proxy struct {
	*Dialer
	listen net.Listener
	ctx    context.Context //nolint:containedctx // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Listen starts a proxy on a free port of this machine. Close it in the end.
func Listen(target string) (*Proxy, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultnet: %w", err)
	}
	p := &Proxy{listen: listen, Dialer: &Dialer{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", target)
	}}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

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
	out, err := p.DialContext(p.ctx, "")
	if errors.Is(err, errDown{}) {
		p.hang(in)
	}
	if err != nil {
		return // the client sees a cut
	}
	defer func() { _ = out.Close() }()
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer func() { _ = in.Close() }()
		_, _ = io.Copy(in, out) // its error is the cut
	}()
	_, _ = io.Copy(out, in)
	_ = out.Close()
	<-back
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
