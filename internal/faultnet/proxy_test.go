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
