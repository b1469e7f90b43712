// Package freeport finds addresses for servers that tests start in processes of their own, and restart.
//
// A port that the system picked by itself, and that was given back, is not safe to tell to a server: any connection or
// listener on the machine may be given it next, before the server starts or between two of its lives.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports are below those that systems give to outgoing connections and to listeners without a wish: from 32768 on Linux,
// from 49152 elsewhere.
const (
	lowest  = 10_000
	highest = 32_767
)

// attempts is how many ports are tried.
const attempts = 1000

// Reserve finds a TCP address on loopback, as host:port, that nobody listens on and that no other caller of Reserve on this
// machine is given until release, whatever process it is in.
func Reserve() (addr string, release func(), err error) {
	for range attempts {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(highest-lowest+1)))
		if release, err = reserve(addr); err == nil {
			return addr, release, nil
		}
	}
	return "", nil, fmt.Errorf("freeport: no free port on loopback between %d and %d in %d attempts: %w", lowest, highest, attempts, err)
}

// reserve holds the UDP port of the same number, which nothing else here has a use for, as the sign that the address is taken.
func reserve(addr string) (release func(), err error) {
	sign, err := net.ListenPacket("udp", addr) //nolint:noctx // nothing is looked up
	if err != nil {
		return nil, fmt.Errorf("reserve: %w", err)
	}
	l, err := net.Listen("tcp", addr) //nolint:noctx // nothing is looked up
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), sign.Close())
	}
	if err := l.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("close: %w", err), sign.Close())
	}
	return func() { _ = sign.Close() }, nil
}

// For is [Reserve] until the end of a test.
func For(t testing.TB) (addr string) {
	t.Helper()
	addr, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return addr
}
