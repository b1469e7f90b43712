package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Bare streams on grpc-go: no broker, no worker, one hop, a frame per message and nothing batched. Echo is a stream both
// ways per connection, on which requests are pipelined; Parts is a server stream per request, which brings its many
// answers.

const (
	streamEcho  = "/bench.Stream/Echo"
	streamParts = "/bench.Stream/Parts"
)

// streamService is what a generated stub would register.
func streamService(j *job) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "bench.Stream",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: "Echo", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				return answerStream(s, j.Shape, nil)
			}},
			{StreamName: "Parts", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
				var request wrapperspb.BytesValue
				if err := s.RecvMsg(&request); err != nil {
					return err
				}
				return sendParts(s, newParts(j.Shape.Payload), request.Value, j.Shape.answers())
			}},
		},
	}
}

func streamServer(j *job) (*part, error) { return startGRPC(streamService(j)) }

// A messageStream is what both ends of a stream have.
type messageStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// answerStream answers the requests of a stream, one after the other, and counts the answers if there is a counter.
func answerStream(s messageStream, sh shape, handled *atomic.Int64) error {
	answers := newParts(sh.Payload)
	for {
		var request, answer wrapperspb.BytesValue
		err := s.RecvMsg(&request)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if handled != nil {
			handled.Add(int64(sh.answers())) // before the caller can know of it
		}
		if sh.answers() > 1 {
			err = sendParts(s, answers, request.Value, sh.answers())
		} else if answer.Value, err = appendAnswer(nil, request.Value); err == nil {
			err = s.SendMsg(&answer)
		}
		if err != nil {
			return err
		}
	}
}

func sendParts(s messageStream, p parts, request []byte, n int) error {
	if err := p.to(request); err != nil {
		return err
	}
	for i := range n {
		if err := s.SendMsg(&wrapperspb.BytesValue{Value: p.at(i)}); err != nil {
			return err
		}
	}
	return nil
}

// partsCaller has a server stream for each request.
func partsCaller(j *job) (*part, error) {
	conns, closeAll, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	desc := &grpc.StreamDesc{ServerStreams: true}
	return &part{close: closeAll, run: func(l *load) error {
		return l.each(func(ctx context.Context, s *slot) error {
			stream, err := conns[s.number%len(conns)].NewStream(ctx, desc, streamParts)
			if err == nil {
				err = stream.SendMsg(&wrapperspb.BytesValue{Value: s.next()})
			}
			if err == nil {
				err = stream.CloseSend()
			}
			if err == nil {
				err = receiveParts(stream, s, j.Shape.answers())
			}
			if err != nil {
				return err
			}
			if err := stream.RecvMsg(&wrapperspb.BytesValue{}); !errors.Is(err, io.EOF) {
				return fmt.Errorf("after the last answer comes %w, not the end", err)
			}
			return nil
		})
	}}, nil
}

func receiveParts(stream grpc.ClientStream, s *slot, n int) error {
	if err := s.expectParts(); err != nil {
		return err
	}
	for i := range n {
		var answer wrapperspb.BytesValue
		if err := stream.RecvMsg(&answer); err != nil {
			return err
		}
		if err := s.parts.check(i, answer.Value); err != nil {
			return err
		}
	}
	return nil
}

// streamCaller has a stream for each connection. Answers come in the order of the requests.
func streamCaller(j *job) (*part, error) { return streamCallerOf(j, streamEcho) }

func streamCallerOf(j *job, method string) (*part, error) {
	conns, closeConns, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	closeAll := func() { cancel(); closeConns() }
	streams, err := grpcStreams(ctx, conns, method)
	if err != nil {
		closeAll()
		return nil, err
	}
	return &part{close: closeAll, run: func(l *load) error {
		var wg sync.WaitGroup
		for i, slots := range l.split(len(streams)) {
			wg.Go(func() {
				if err := streamCalls(streams[i], slots, j.Shape); err != nil {
					l.fail(err)
				}
			})
		}
		err := l.wait()
		if err != nil {
			cancel()
		}
		wg.Wait()
		return err
	}}, nil
}

// grpcStreams opens a stream on each connection.
func grpcStreams(ctx context.Context, conns []*grpc.ClientConn, method string) ([]grpc.ClientStream, error) {
	var streams []grpc.ClientStream
	for _, c := range conns {
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			return nil, err
		}
		streams = append(streams, s)
	}
	return streams, nil
}

// streamCalls keeps a request of each slot in flight. Requests are sent apart from receiving, since large ones have to
// wait for room that only receiving makes.
func streamCalls(stream grpc.ClientStream, slots []*slot, sh shape) error {
	asked := make(chan *slot, len(slots))   // in flight, in their order
	resting := make(chan *slot, len(slots)) // to be asked again
	sent := make(chan error, 1)
	go func() { // ends when resting is closed
		var err error
		for s := range resting {
			request := &wrapperspb.BytesValue{Value: s.next()}
			asked <- s
			if err = stream.SendMsg(request); err != nil {
				break
			}
		}
		close(asked)
		sent <- err
	}()
	for _, s := range slots {
		resting <- s
	}
	var err error
	for left := len(slots); left > 0 && err == nil; {
		s, ok := <-asked
		if !ok {
			break // sending failed
		}
		if sh.answers() > 1 {
			err = receiveParts(stream, s, sh.answers())
		} else {
			var answer wrapperspb.BytesValue
			if err = stream.RecvMsg(&answer); err == nil {
				err = s.check(answer.Value)
			}
		}
		if err == nil && s.finish() {
			resting <- s
		} else {
			left--
		}
	}
	close(resting)
	return errors.Join(err, <-sent)
}
