package testbed_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStart(t *testing.T) {
	for name, options := range map[string][]testbed.Option{
		"on loopback": nil,
		"in memory":   {testbed.InMemory()},
	} {
		t.Run(name, func(t *testing.T) {
			bed, err := testbed.Start(options...)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := bed.Dial()
			if err != nil {
				t.Fatal(err)
			}
			res, err := queuepb.NewQueueServiceClient(conn).GetServerInfo(t.Context(), &queuepb.GetServerInfoRequest{})
			if err != nil || res.Version != "dev" {
				t.Errorf("GetServerInfo() = %v, %v, want version dev", res, err)
			}
			for range 2 {
				if err := bed.Close(); err != nil {
					t.Errorf("Close() = %v, want nil", err)
				}
			}
		})
	}
}

// TestStartFails: nothing is left of a Bed that could not start.
func TestStartFails(t *testing.T) {
	if _, err := testbed.Start(testbed.WithServer(func(c *server.Config) { c.MaxPayload = -1 })); err == nil {
		t.Error("Start() with a bad configuration = nil error")
	}
}

// TestCloseWithOpenStreams: Close does not wait for clients.
func TestCloseWithOpenStreams(t *testing.T) {
	bed := testbed.New(t)
	conn, err := bed.Dial()
	if err != nil {
		t.Fatal(err)
	}
	call, err := queuepb.NewQueueServiceClient(conn).Call(t.Context(), &queuepb.CallRequest{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := bed.Close(); err != nil {
		t.Errorf("Close() = %v, want nil", err)
	}
}
