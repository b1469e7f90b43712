package integration_test

import (
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	code, version := runServerCommand(t, "version")
	if code != 0 || version == "" || strings.Contains(version, "\n") {
		t.Fatalf("queue-server version: exit code %d, %q", code, version)
	}
	s := startServer(t)
	info, err := s.stub(t).GetServerInfo(t.Context(), &queuepb.GetServerInfoRequest{})
	if err != nil {
		t.Fatalf("GetServerInfo() = %v", err)
	}
	if info.Version != version || info.Tenant != "default" || info.Durability != queuepb.Durability_DURABILITY_MEMORY {
		t.Errorf("GetServerInfo() = %v, want version %q, tenant default, in memory", info, version)
	}
}

// The health command, and the gRPC health service that it asks.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--drain-timeout", "60s")
	if code, out := runServerCommand(t, "health", "--address", s.addr); code != 0 || out != "SERVING" {
		t.Errorf("queue-server health: exit code %d, %q, want 0, SERVING", code, out)
	}
	health := healthpb.NewHealthClient(s.dial(t))
	for _, service := range []string{"", "replyq.v1.QueueService", "replyq.v1.AdminService"} {
		res, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || res.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("Check(%q) = %v, %v, want SERVING", service, res.GetStatus(), err)
		}
	}
	if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("Check(nobody) = %v, want NOT_FOUND", err)
	}

	s.play(t, inGo, "producer", "--queue", "reports", "--wait").await(t, "receipt") // keeps the stop from ending at once
	s.signal(t, syscall.SIGTERM)
	eventually(t, "the health command says NOT_SERVING", func() bool {
		code, out := runServerCommand(t, "health", "--address", s.addr)
		return code == 1 && out == "NOT_SERVING"
	})
	s.kill()
	if code, out := runServerCommand(t, "health", "--address", s.addr); code != 4 {
		t.Errorf("queue-server health without a server: exit code %d, %q, want 4", code, out)
	}
}

// Wrong command lines and files have exit codes and sentences.
func TestCommandLineErrors(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cases := []struct {
		name string
		args []string
		code int
		says string
	}{
		{"unknown flag", []string{"--nonsense"}, 2, "--nonsense"},
		{"address in use", []string{"--listen", s.addr}, 1, "--listen"},
		{"no such file", []string{"--api-keys", "/nowhere"}, 1, "/nowhere"},
		{"bad key file", []string{"--key-file", writeFile(t, "keys", "0 mint now nonsense")}, 1, "line 1"},
	}
	for _, c := range cases {
		code, out := runServerCommand(t, c.args...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit code %d, %q, want %d and %q", c.name, code, out, c.code, c.says)
		}
	}
}
