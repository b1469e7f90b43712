package faultnet_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultnet"
)

// What passes a proxy is cut, or swallowed and then cut, when it says so; a connection that is made meanwhile has no answer
// before the network is back.
func TestProxy(t *testing.T) {
	server := echo(t)
	p, err := faultnet.Listen(server)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	first := dial(t, p.Addr())
	if !answers(t, first) {
		t.Fatal("nothing passes")
	}
	p.Cut()
	if answers(t, first) {
		t.Error("what was cut goes on")
	}
	second := dial(t, p.Addr())
	if !answers(t, second) {
		t.Fatal("nothing passes after a cut")
	}
	p.Swallow()
	third := dial(t, p.Addr())
	for _, c := range []net.Conn{second, third} {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("in a network that swallows all: %d bytes, %v", n, err)
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	p.Heal()
	if answers(t, second) || answers(t, third) {
		t.Error("a connection of the time before goes on")
	}
	if !answers(t, dial(t, p.Addr())) {
		t.Error("nothing passes afterwards")
	}
}

// What goes one way is held, while the other goes on and the connection stays; it comes when it is released, and never when
// it is cut before.
func TestProxyHolds(t *testing.T) {
	for name, way := range map[string]faultnet.Direction{"to the server": faultnet.ToServer, "to the client": faultnet.ToClient} {
		t.Run(name, func(t *testing.T) {
			p, server, client := ends(t)
			from, to := client, server
			if way == faultnet.ToClient {
				from, to = server, client
			}
			p.Hold(way)
			p.Hold(way) // is no other hold
			send(t, from, "held")
			send(t, to, "other way")
			wantNext(t, from, "other way")
			if err := to.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if n, err := to.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("while it is held: %d bytes, %v", n, err)
			}
			if err := to.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			p.Release()
			wantNext(t, to, "held")
			send(t, from, "not held")
			wantNext(t, to, "not held")

			p.Hold(way)
			send(t, from, "lost")
			p.Cut()
			p.Release()
			if got, _ := io.ReadAll(to); len(got) > 0 { // its error is the cut
				t.Errorf("%q came through a cut", got)
			}
		})
	}
}

// A proxy that holds can be closed.
func TestProxyClosesHolding(t *testing.T) {
	p, server, client := ends(t)
	p.Hold(faultnet.ToServer)
	p.Hold(faultnet.ToClient)
	send(t, server, "x")
	send(t, client, "x")
	p.Close()
	if got, _ := io.ReadAll(client); len(got) > 0 { // its error is the cut
		t.Errorf("%q came through a closed proxy", got)
	}
}

// ends are those of a connection through a proxy.
func ends(t *testing.T) (p *faultnet.Proxy, server, client net.Conn) {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listen.Close() }() // it has taken the one connection
	if p, err = faultnet.Listen(listen.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	client = dial(t, p.Addr())
	if server, err = listen.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return p, server, client
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func wantNext(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v came, want %q", got, err, text)
	}
}

// echo is a server that says what it is told.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listen.Close() })
	go func() {
		for {
			c, err := listen.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return listen.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answers tells whether what is sent comes back.
func answers(t *testing.T, c net.Conn) bool {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	_, err := c.Read(make([]byte, 1))
	return err == nil
}
