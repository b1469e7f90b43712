package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A bare unary echo on grpc-go with its defaults: no broker, no worker, one hop. It is what a plain RPC can cost at
// least.

const echoMethod = "/bench.Echo/Echo"

// echoService is what a generated stub would register.
var echoService = grpc.ServiceDesc{
	ServiceName: "bench.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(
		_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
	) (any, error) {
		var in wrapperspb.BytesValue
		if err := decode(&in); err != nil {
			return nil, err
		}
		answer, err := appendAnswer(nil, in.Value)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		return &wrapperspb.BytesValue{Value: answer}, nil
	}}},
}

func echoServer(*job) (*part, error) { return startGRPC(&echoService) }

func echoCaller(j *job) (*part, error) {
	conns, closeAll, err := grpcConns(j)
	if err != nil {
		return nil, err
	}
	return &part{close: closeAll, run: func(l *load) error {
		return l.calls(func(ctx context.Context, s *slot, request []byte) ([]byte, error) {
			var out wrapperspb.BytesValue
			err := conns[s.number%len(conns)].Invoke(ctx, echoMethod, &wrapperspb.BytesValue{Value: request}, &out)
			return out.Value, err
		})
	}}, nil
}
