package main

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// What the systems on bare grpc-go share. All of them have its defaults.

// startGRPC serves a service in this process.
func startGRPC(service *grpc.ServiceDesc, options ...grpc.ServerOption) (*part, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(options...)
	s.RegisterService(service, struct{}{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return &part{addr: l.Addr().String(), close: func() {
		s.Stop()
		<-served //nolint:errcheck // it ends because it was stopped
	}}, nil
}

// grpcConns opens connections, and closes them with closeAll.
func grpcConns(j *job) (conns []*grpc.ClientConn, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range conns {
			_ = c.Close() // the run is over
		}
	}
	for range j.Shape.Connections {
		c, err := grpc.NewClient("passthrough:///"+j.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, c)
	}
	return conns, closeAll, nil
}
