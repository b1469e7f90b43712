package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
)

// An owner is the replica that serves, and the connections to it.
type owner struct {
	address string
	options []grpc.DialOption
	// ctx ends when what is relayed to it has to; its cause says why.
	ctx context.Context
	end context.CancelCauseFunc

	mu     sync.Mutex
	conns  []*peerConn
	closed bool
}

// A peerConn is a connection and what is under way on it, guarded by owner.mu.
type peerConn struct {
	*grpc.ClientConn
	calls int
}

const (
	// leastPeerConns is how many connections there are to an owner, so that one that is busy does not hold up all.
	leastPeerConns = 4
	// fullPeerConn is how many calls share a connection before there is a further one. The owner takes twice as many.
	fullPeerConn = maxStreams / 2
	// maxRelayedFrame is larger than any frame is.
	maxRelayedFrame = 16 << 20
)

// newOwner dials nobody yet.
func (s *Server) newOwner(address string) *owner {
	o := &owner{address: address}
	o.ctx, o.end = context.WithCancelCause(s.running)
	o.options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(maxRelayedFrame), grpc.MaxCallSendMsgSize(maxRelayedFrame)),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		experimental.WithBufferPool(s.buffers),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: ownerWait,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithStaticStreamWindowSize(1 << 20),
		grpc.WithStaticConnWindowSize(16 << 20),
		grpc.WithWriteBufferSize(64 << 10),
		grpc.WithReadBufferSize(64 << 10),
	}, s.peers.Dial...)
	return o
}

var errLeft = errors.New("the owner's connections were closed")

// enter takes a place on the connection that has most room.
func (o *owner) enter() (*peerConn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, errLeft
	}
	var best *peerConn
	for _, c := range o.conns {
		if best == nil || c.calls < best.calls {
			best = c
		}
	}
	if best == nil || best.calls > 0 && len(o.conns) < leastPeerConns || best.calls >= fullPeerConn {
		conn, err := grpc.NewClient("passthrough:///"+o.address, o.options...)
		if err != nil {
			return nil, fmt.Errorf("connect to the owner at %s: %w", o.address, err)
		}
		best = &peerConn{ClientConn: conn}
		o.conns = append(o.conns, best)
	}
	best.calls++
	return best, nil
}

func (o *owner) leave(c *peerConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.calls--
}

// close ends what is still relayed to it, and the connections.
func (o *owner) close() {
	o.end(errOwnerChanged())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, c := range o.conns {
		_ = c.Close() // fails only if it was closed before
	}
}

// A rawFrame is a message as it came, on its way to somebody who knows what it means.
type rawFrame struct{ data mem.BufferSlice }

// free gives the bytes back.
func (f *rawFrame) free() {
	f.data.Free()
	f.data = nil
}

// keep takes the bytes, which are whoever's called.
func (f *rawFrame) keep(data mem.BufferSlice) {
	data.Ref()
	f.data = data
}

// lend gives the bytes to one who frees them.
func (f *rawFrame) lend() mem.BufferSlice {
	f.data.Ref()
	return f.data
}

// rawCodec is for connections to an owner: it knows raw frames alone.
type rawCodec struct{}

// Name implements encoding.CodecV2.
func (rawCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*rawFrame)
	if !ok {
		return nil, fmt.Errorf("relay a %T", v)
	}
	return f.lend(), nil
}

// Unmarshal implements encoding.CodecV2.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*rawFrame)
	if !ok {
		return fmt.Errorf("relay a %T", v)
	}
	f.keep(data)
	return nil
}
