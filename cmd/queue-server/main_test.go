package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/replyq/replyq/internal/freeport"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"queue-server": main})
}

// TestScripts runs testdata/script: what an operator types, and what comes back.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			addr, release, err := freeport.Reserve()
			if err != nil {
				return err
			}
			env.Defer(release)
			env.Setenv("ADDR", addr)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// serving ADDR waits until a server answers there.
			"serving": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(serving(args[0])) },
			// exitcode N COMMAND... wants that exit code.
			"exitcode": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				var exit *exec.ExitError
				if code := "0"; err == nil && args[0] != code || err != nil && (!errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0]) {
					ts.Fatalf("%v = %v, want exit code %s", args[1:], err, args[0])
				}
			},
			// private FILE makes a file the owner's.
			"private": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o600))
			},
		},
	})
}

func serving(addr string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second, Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1}}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // fails only if closed before
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	health, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	for err == nil {
		var res *healthpb.HealthCheckResponse
		if res, err = health.Recv(); err == nil && res.Status == healthpb.HealthCheckResponse_SERVING {
			return nil
		}
	}
	return fmt.Errorf("health of %s: %w, want SERVING", addr, err)
}
