package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/freeport"
	"github.com/replyq/replyq/server"
)

// TestSecondSignal: a stop that waits for a client is cut short.
func TestSecondSignal(t *testing.T) {
	addr := freeport.For(t)
	c := serveCmd{Listen: addr, DrainTimeout: time.Hour, LogLevel: slog.LevelError, LogFormat: "text", MaxPayload: 1 << 20}
	signals := make(chan os.Signal)
	var (
		out  bytes.Buffer
		code int
	)
	done := make(chan error, 1)
	go func() { done <- c.serve(streams{&out, &out}, signals, &code) }()
	if err := serving(addr); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // fails only if closed before
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	call, err := queuepb.NewQueueServiceClient(conn).Call(ctx, &queuepb.CallRequest{Queue: "work"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); err != nil {
		t.Fatal(err)
	}
	signals <- syscall.SIGTERM
	signals <- syscall.SIGHUP // not a second one
	select {
	case err := <-done:
		t.Fatalf("serve() = %v while a client waits, want it to wait too", err)
	default:
	}
	signals <- syscall.SIGTERM
	if err := <-done; err == nil || code != exitForced {
		t.Errorf("serve() = %v with code %d, want an error and %d", err, code, exitForced)
	}
}

// TestReload: a hangup reads the keys again; a broken file leaves them as they are.
func TestReload(t *testing.T) {
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	c := serveCmd{APIKeys: filepath.Join(dir, "api-keys"), KeyFile: filepath.Join(dir, "keys"), ClusterName: "test"}
	first, firstLine := server.NewAPIKey("default", 1, "a", time.Time{})
	second, secondLine := server.NewAPIKey("default", 1, "b", time.Time{})
	write(c.APIKeys, firstLine)
	write(c.KeyFile, handles.GenerateKeyLine(0, "mint", time.Now()))
	apiKeys, err := c.readAPIKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.keysIn(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	good := func(key string) bool {
		_, ok := apiKeys.Identify(key, time.Now())
		return ok
	}
	write(c.APIKeys, secondLine)
	c.reload(log, c.KeyFile, keys, apiKeys)
	if good(first) || !good(second) || strings.Count(out.String(), "keys read again") != 2 {
		t.Errorf("after a reload the first key is %v and the second %v; log: %s", good(first), good(second), out.String())
	}
	write(c.APIKeys, "nonsense")
	write(c.KeyFile, "nonsense")
	c.reload(log, c.KeyFile, keys, apiKeys)
	if !good(second) || strings.Count(out.String(), "keys not read again") != 2 {
		t.Errorf("after a broken reload the second key is %v; log: %s", good(second), out.String())
	}
}

func TestByteSize(t *testing.T) {
	for give, want := range map[string]byteSize{"1": 1, "1048576": 1 << 20, "512KiB": 512 << 10, "3MiB": 3 << 20, "8GiB": 8 << 30} {
		var got byteSize
		if err := got.UnmarshalText([]byte(give)); err != nil || got != want {
			t.Errorf("UnmarshalText(%q) = %d, %v, want %d", give, got, err, want)
		}
	}
	for _, give := range []string{"", "0", "-1", "2000000GiB", "9999999999999999999", "1 MiB", "MiB", "1TB"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(give)); err == nil {
			t.Errorf("UnmarshalText(%q) = %d, want an error", give, got)
		}
	}
}

func TestReachable(t *testing.T) {
	for give, want := range map[string]string{
		"127.0.0.1:7420": "127.0.0.1:7420", "0.0.0.0:7420": "127.0.0.1:7420", ":7420": "127.0.0.1:7420",
		"[::]:7420": "127.0.0.1:7420", "queue:7420": "queue:7420", "queue": "queue",
	} {
		if got := reachable(give); got != want {
			t.Errorf("reachable(%q) = %q, want %q", give, got, want)
		}
	}
}
