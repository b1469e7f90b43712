package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

type healthCmd struct {
	Address string        `default:"127.0.0.1:7420" env:"REPLYQ_LISTEN" placeholder:"HOST:PORT" help:"The server to ask (${default}). An address that means all interfaces means this machine."`
	Timeout time.Duration `default:"2s" placeholder:"TIME" help:"How long to wait for an answer (${default})."`
}

// The health command's own exit codes.
const (
	exitNotServing  = 1
	exitUnreachable = 4
)

// Help is shown by health --help.
func (healthCmd) Help() string {
	return "Exit codes: 0 serving, 1 it answers but does not serve (it is going down), 2 the command line is wrong, " +
		"4 no answer."
}

// Run asks.
func (c *healthCmd) Run(std streams, code *int) error {
	address := reachable(c.Address)
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		*code = exitUsage
		return fmt.Errorf("ask %s: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err = errors.Join(err, conn.Close()); err != nil {
		*code = exitUnreachable
		return fmt.Errorf("no answer from %s: %w", address, err)
	}
	fmt.Fprintln(std.out, res.Status)
	if res.Status != healthpb.HealthCheckResponse_SERVING {
		*code = exitNotServing
	}
	return nil
}

// reachable turns an address to listen on into one to connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address // gRPC says what is wrong with it
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
