package integration_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/replyq/replyq/client"
)

// Without its key a program gets nowhere, in any language.
func TestAPIKeysRefuse(t *testing.T) {
	t.Parallel()
	s, key, _ := startTwoTenants(t)
	inEach(t, func(t *testing.T, l language) {
		for given, reason := range map[string]string{"": "CREDENTIALS_MISSING", "qk1_" + canary: "CREDENTIALS_INVALID"} {
			p := s.play(t, l, "producer", "--key", given, "--queue", "reports")
			got := p.next(t)
			got.Message, got.Rich = "", nil
			got.compare(t, p.name, event{Event: "status", Code: "UNAUTHENTICATED", Reason: reason})
		}
		p := s.play(t, l, "producer", "--key", key, "--queue", "reports")
		tell(t, p.name, p.all(t), "receipt")
	})
}

// Tenants do not see each other: the same name is another queue, and the other's handles are unknown.
func TestAPIKeysTenants(t *testing.T) {
	t.Parallel()
	s, ours, theirs := startTwoTenants(t)
	inEach(t, func(t *testing.T, l language) {
		queue := "reports." + string(l)
		s.consumer(t, l, queue, "fail", "--key", theirs)
		worker := s.consumer(t, l, queue, "echo", "--key", ours)
		caller := s.play(t, l.next(), "producer", "--key", ours, "--queue", queue, "--payload", canary, "--wait")
		receipt := caller.await(t, "receipt")
		tell(t, caller.name, caller.all(t), "reply CANARY", "end OK", "status OK")

		spy := s.play(t, l, "waiter", "--key", theirs, "--handle", receipt.ReceiveHandle)
		got := spy.next(t)
		got.Message, got.Rich = "", nil
		got.compare(t, spy.name, event{Event: "status", Code: "NOT_FOUND", Reason: "HANDLE_UNKNOWN", Field: "handle"})

		send := worker.await(t, "delivery").ReplyTo
		forger := s.play(t, l, "replier", "--key", theirs, "--handle", send, "--payload", canary)
		forger.next(t).compare(t, forger.name, event{Event: "outcome", Outcome: "UNKNOWN"})
	})
}

// A key that is taken out of the file is refused after SIGHUP, and one that is put in is good.
func TestAPIKeysReload(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "api-keys")
	_, old := runServerCommand(t, "new-api-key", "--append", file, "--principal", "alice")
	s := startServer(t, "--api-keys", file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, fresh := runServerCommand(t, "new-api-key", "--append", file, "--principal", "bob")
	s.signal(t, syscall.SIGHUP)

	ping := func(key string) error {
		c := s.client(t, client.WithAPIKey(key))
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		_, err := c.ServerInfo(ctx)
		return err
	}
	eventually(t, "the new key is good", func() bool { return ping(fresh) == nil })
	if err := ping(old); !errors.Is(err, client.ReasonCredentialsInvalid) {
		t.Errorf("with the old key: %v, want %v", err, client.ReasonCredentialsInvalid)
	}
}
