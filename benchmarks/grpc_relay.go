package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// A bare relay on grpc-go: each of the caller's streams is joined with one of the worker's, and the messages of one are
// sent on in the other, two hops in all. The relay neither decodes nor copies them. It is what a server between two
// gRPC clients can cost at least.

const (
	relayWork = "/bench.Relay/Work"
	relayCall = "/bench.Relay/Call"
)

func grpcRelayServer(*job) (*part, error) {
	workers := make(chan grpc.ServerStream, 1024)
	return startGRPC(&grpc.ServiceDesc{
		ServiceName: "bench.Relay",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Work", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				workers <- s
				<-s.Context().Done() // it is used by the handler of the caller's
				return nil
			}},
			{StreamName: "Call", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				worker := <-workers // they came first
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() { _ = relayMessages(worker, s) }) // the caller goes: the run is over
				return relayMessages(s, worker)
			}},
		},
	}, grpc.ForceServerCodecV2(opaque{}))
}

// relayMessages sends on what comes, until one end is gone.
func relayMessages(to, from grpc.ServerStream) error {
	for {
		var m opaqueMessage
		if err := from.RecvMsg(&m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := to.SendMsg(&m); err != nil {
			return err
		}
	}
}

// An opaqueMessage is what a message was on the wire.
type opaqueMessage struct{ mem.BufferSlice }

// opaque is a codec that leaves messages as they are.
type opaque struct{}

// opaque implements encoding.CodecV2.
var _ encoding.CodecV2 = opaque{}

// Name implements encoding.CodecV2.
func (opaque) Name() string { return "proto" }

// Marshal implements encoding.CodecV2. gRPC frees what it is given, so it is given what Unmarshal has kept.
func (opaque) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*opaqueMessage)
	if !ok {
		return nil, fmt.Errorf("a relay does not send a %T", v)
	}
	return m.BufferSlice, nil
}

// Unmarshal implements encoding.CodecV2.
func (opaque) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*opaqueMessage)
	if !ok {
		return fmt.Errorf("a relay does not receive a %T", v)
	}
	data.Ref()
	m.BufferSlice = data
	return nil
}

func grpcRelayWorker(j *job) (*part, error) {
	conns, closeConns, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	closeAll := func() { cancel(); closeConns(); wg.Wait() }
	streams, err := grpcStreams(ctx, conns, relayWork)
	if err != nil {
		closeAll()
		return nil, err
	}
	var handled atomic.Int64
	for _, s := range streams {
		wg.Go(func() {
			if err := answerStream(s, j.Shape, &handled); err != nil && ctx.Err() == nil {
				fatal(err)
			}
		})
	}
	return &part{handled: &handled, close: closeAll}, nil
}

func grpcRelayCaller(j *job) (*part, error) { return streamCallerOf(j, relayCall) }
