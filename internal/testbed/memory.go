package testbed

import (
	"context"
	"net"

	"google.golang.org/grpc/test/bufconn"
)

// A memoryListener is a listener in memory.
type memoryListener struct {
	*bufconn.Listener
	turn chan struct{} // cap 1, of all listeners of a Bed
}

// DialContext makes one connection at a time. Each begins with timers that are due at once, and in fake time Go runs such a
// timer where it is set: with the race detector of Go 1.26 two at once bring the process down.
func (m *memoryListener) DialContext(ctx context.Context) (net.Conn, error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx) //nolint:wrapcheck // the caller's own
	}
	defer func() { <-m.turn }()
	return m.Listener.DialContext(ctx) //nolint:wrapcheck // with no word of its own
}
