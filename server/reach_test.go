package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// healthOf asks a server for its health, as whole and as the owner.
func healthOf(t *testing.T, conn *grpc.ClientConn) (whole, owner bool) {
	t.Helper()
	check := func(service string) bool {
		res, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatalf("Check(%q) = %v", service, err)
		}
		return res.Status == healthpb.HealthCheckResponse_SERVING
	}
	return check(""), check("replyq.owner")
}

// TestRelayIsAsReadyAsTheOwner: a replica that relays serves as long as the owner does and answers it, and five seconds more.
func TestRelayIsAsReadyAsTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bed := testbed.New(t, testbed.InMemory(), testbed.Relayed())
		past, through := must[*grpc.ClientConn](t)(bed.DialOwner()), must[*grpc.ClientConn](t)(bed.Dial())
		t.Cleanup(func() { _, _ = past.Close(), through.Close() })
		check := func(when string, wantOwner, wantRelay bool) {
			t.Helper()
			if whole, itself := healthOf(t, past); whole != wantOwner || itself != wantOwner {
				t.Errorf("%s: the owner serves %v, itself %v, want %v", when, whole, itself, wantOwner)
			}
			if whole, itself := healthOf(t, through); whole != wantRelay || itself {
				t.Errorf("%s: the relay serves %v, itself %v, want %v, false", when, whole, itself, wantRelay)
			}
		}
		wait := func(d time.Duration) { <-time.After(d) }
		wait(time.Minute)
		check("all is well", true, true)
		bed.Owner.SetReady(false)
		wait(4 * time.Second)
		check("the owner is not well", false, true)
		wait(3 * time.Second)
		check("the owner has not been well for long", false, false)
		bed.Owner.SetReady(true)
		wait(2 * time.Second)
		check("the owner is well again", true, true)
		bed.Server.Relay("")
		check("nobody is known", true, false)
		bed.Server.Own(bed.Broker)
		if whole, itself := healthOf(t, through); !whole || !itself {
			t.Errorf("the relay serves %v, itself %v, when it owns", whole, itself)
		}
		bed.Server.Relay("the other")
		bed.Owner.Shutdown(t.Context())
		wait(7 * time.Second)
		if whole, itself := healthOf(t, through); whole || itself {
			t.Errorf("the relay serves %v, itself %v, when the owner does not answer", whole, itself)
		}
	})
}

// TestClusterIsNotRelayed: the replica that is asked answers, whoever serves, and if nobody does. A server that is not one of
// several refuses.
func TestClusterIsNotRelayed(t *testing.T) {
	here := func(c *server.Config) {
		c.Cluster = func(context.Context) *queuepb.GetClusterResponse { return &queuepb.GetClusterResponse{Node: "here"} }
	}
	bed := testbed.New(t, testbed.Relayed(), testbed.WithServer(here))
	c := dial(t, bed)
	for _, address := range []string{"127.0.0.1:1", ""} {
		bed.Server.Relay(address)
		if got := must[*queuepb.GetClusterResponse](t)(c.admin().GetCluster(c.ctx, &queuepb.GetClusterRequest{})); got.Node != "here" {
			t.Errorf("relaying to %q: %v", address, got)
		}
	}
	alone := newClient(t)
	var trailer metadata.MD
	_, err := alone.admin().GetCluster(alone.ctx, &queuepb.GetClusterRequest{}, grpc.Trailer(&trailer))
	if got, want := refusalOf(t, err, trailer), (refusal{codes.FailedPrecondition, "NOT_REPLICATED", ""}); got != want {
		t.Errorf("alone: %v, want %v", got, want)
	}
}
