package integration_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/badinput"
)

// A target is a server that bad things are sent to. The test has its keys, so that it can make handles that are genuine
// and good for nothing.
type target struct {
	*server
	flags []string
	conn  *grpc.ClientConn
	ring  *handles.KeyRing
	// ctx and others say that two principals of the tenant default call, and foreign one of another tenant.
	ctx, others, foreign context.Context
}

// startTarget starts a server with API keys and a file of handle keys.
func startTarget(t *testing.T, flags ...string) *target {
	t.Helper()
	apiKeys := filepath.Join(t.TempDir(), "api-keys")
	newKey := func(args ...string) string {
		code, key := runServerCommand(t, append([]string{"new-api-key", "--append", apiKeys, "--principal"}, args...)...)
		if code != 0 {
			t.Fatalf("new-api-key: %s", key)
		}
		return key
	}
	mine, others, foreign := newKey("alice"), newKey("bob"), newKey("mallory", "--tenant", "other", "--tenant-number", "2")
	keyFile := writeFile(t, "handle-keys", "0 mint 2024-01-01T00:00:00Z "+vectorRoot)
	flags = append([]string{"--api-keys", apiKeys, "--key-file", keyFile, "--cluster-name", vectorCluster}, flags...)
	content, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := handles.ParseKeys(vectorCluster, content)
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, flags...)
	return &target{
		server: s, flags: flags, conn: s.dial(t), ring: ring,
		ctx: as(t.Context(), mine), others: as(t.Context(), others), foreign: as(t.Context(), foreign),
	}
}

// prepare makes what the catalogue speaks of. It is gone when stop is called.
func (s *target) prepare(t *testing.T) (f *badinput.Fixture, stop func()) {
	t.Helper()
	mine, stopMine := context.WithCancel(s.ctx)
	others, stopOthers := context.WithCancel(s.others)
	f, err := badinput.Prepare(badinput.Clients{
		Queues: queuepb.NewQueueServiceClient(s.conn), Admin: queuepb.NewAdminServiceClient(s.conn), Mine: mine, Other: others,
	}, s.ring)
	if err != nil {
		t.Fatal(err)
	}
	return f, func() {
		stopMine()
		stopOthers()
	}
}

// Every bad request is refused as the catalogue says, on both faces, and leaves nothing behind; whoever comes after it,
// on the same connection, in the same session or on a new connection, notices nothing.
func TestP26BadInput(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	fixture, stop := s.prepare(t)
	session, err := badinput.OpenSession(s.ctx, s.conn)
	if err != nil {
		t.Fatal(err)
	}
	before := s.queues(s.ctx, t)
	for _, row := range badinput.Rows(fixture) {
		t.Run(row.Name, func(t *testing.T) {
			if why := tooGood(row.Name); why != "" {
				t.Skip(why)
			}
			answer, got, err := badinput.Plain(s.ctx, s.conn, row.Method, row.Request)
			if err != nil {
				t.Error(err)
			}
			if wrong := row.Check(answer, got); wrong != "" {
				t.Errorf("plain: %s", wrong)
			}
			if row.InSession {
				answer, got, err := session.Do(&row)
				if err != nil {
					t.Fatal(err)
				}
				if wrong := row.Check(answer, got); wrong != "" {
					t.Errorf("session: %s", wrong)
				}
			}
			s.checkUnchanged(s.ctx, t, before)
			s.checkWorks(s.ctx, t)
		})
	}
	if err := session.Close(); err != nil {
		t.Errorf("the session, closed at the end: %v", err)
	}
	stop()
	if err := s.conn.Close(); err != nil {
		t.Error(err)
	}
	s.checkNothingLeft(t, s.flags...)
}

// What a connection's first message cannot be, its thousandth cannot be either: the whole catalogue at once, on one
// connection, again and again.
func TestBadInputAtOnce(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	fixture, stop := s.prepare(t)
	defer stop()
	before := s.queues(s.ctx, t)
	rows := slices.DeleteFunc(badinput.Rows(fixture), func(r badinput.Row) bool { return tooGood(r.Name) != "" })
	errs := make(chan error)
	for _, row := range rows {
		go func() {
			var failed error
			for range 5 {
				answer, got, err := badinput.Plain(s.ctx, s.conn, row.Method, row.Request)
				if wrong := row.Check(answer, got); err != nil || wrong != "" {
					failed = fmt.Errorf("%s: %v %s", row.Name, err, wrong)
				}
			}
			errs <- failed
		}()
	}
	for range rows {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s.checkUnchanged(s.ctx, t, before)
	s.checkWorks(s.ctx, t)
}
