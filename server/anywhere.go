package server

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
)

// anywhere makes of a service that is served here one that is served wherever the owner is. Calls are decoded only where
// they are carried out. GetCluster stays here.
func (s *Server) anywhere(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	out := *desc
	out.Methods, out.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i := range out.Methods {
		m := &out.Methods[i]
		if "/"+desc.ServiceName+"/"+m.MethodName == queuepb.AdminService_GetCluster_FullMethodName {
			continue // asks about this replica
		}
		m.Handler = s.unaryMethod("/"+desc.ServiceName+"/"+m.MethodName, m.Handler)
	}
	for i := range out.Streams {
		m, here := &out.Streams[i], desc.Streams[i].Handler
		method := "/" + desc.ServiceName + "/" + m.StreamName
		m.Handler = func(srv any, stream grpc.ServerStream) error {
			return s.streamAnywhere(stream, method, m, func(stream grpc.ServerStream) error { return here(srv, stream) })
		}
	}
	return &out
}

// unaryHandler is what the generated code has for a method: it decodes with dec.
type unaryHandler = func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error)

func (s *Server) unaryMethod(method string, here unaryHandler) unaryHandler {
	return func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := &rawFrame{}
		if err := dec(in); err != nil {
			return nil, err
		}
		defer in.free()
		decode := func(v any) error { return s.codec.Unmarshal(in.data, v) }
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: method}
		return interceptor(ctx, in, info, func(ctx context.Context, _ any) (any, error) {
			return s.unaryAnywhere(ctx, method, in, func(ctx context.Context) (any, error) {
				return here(srv, ctx, decode, s.checked)
			})
		})
	}
}

// checked is an interceptor that refuses what the codec could not decode.
func (s *Server) checked(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.limits.frameError(req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}
