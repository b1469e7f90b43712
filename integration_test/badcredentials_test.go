package integration_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// Without good credentials no method of the contract does anything, and none tells what is wrong with them; health is
// open. The methods come from the contract.
func TestP26BadCredentials(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	md, _ := metadata.FromOutgoingContext(s.ctx)
	good := md.Get("authorization")[0]
	missing := badinput.Refusal{Code: codes.Unauthenticated, Reason: "CREDENTIALS_MISSING"}
	invalid := badinput.Refusal{Code: codes.Unauthenticated, Reason: "CREDENTIALS_INVALID"}
	for _, row := range []struct {
		name   string
		values []string
		want   badinput.Refusal
	}{
		{"none", nil, missing},
		{"empty", []string{""}, missing},
		{"two that are good", []string{good, good}, invalid},
		{"one that is good, and one that is not", []string{good, "Bearer x"}, invalid},
		{"no scheme", []string{strings.TrimPrefix(good, "Bearer ")}, invalid},
		{"another scheme", []string{"Basic " + strings.TrimPrefix(good, "Bearer ")}, invalid},
		{"unknown key", []string{"Bearer qk1_" + strings.Repeat("A", 43)}, invalid},
		{"key cut short", []string{good[:len(good)-1]}, invalid},
		{"key and more", []string{good + " x"}, invalid},
		{"over 4 KiB", []string{"Bearer " + strings.Repeat("A", 4<<10)}, invalid},
		{"a handle", []string{"Bearer " + expiredToken}, invalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			ctx := t.Context()
			for _, v := range row.values {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
			}
			for _, method := range badinput.Methods() {
				_, got, err := badinput.Plain(ctx, s.conn, method, nil)
				if err != nil {
					t.Error(err)
				}
				if got != row.want {
					t.Errorf("%s: %v, want %v", method, got, row.want)
				}
			}
			checkHealthIsOpen(ctx, t, s)
		})
	}
	if queues := s.queues(s.ctx, t); len(queues) > 0 {
		t.Errorf("strangers have made queues: %v", queues)
	}
	s.checkWorks(s.ctx, t)
}

func checkHealthIsOpen(ctx context.Context, t *testing.T, s *target) {
	t.Helper()
	res, err := healthpb.NewHealthClient(s.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: queuepb.QueueService_ServiceDesc.ServiceName})
	if err != nil || res.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v, want SERVING", res, err)
	}
}
