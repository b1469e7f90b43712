package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/freeport"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
	"github.com/replyq/replyq/journal/disk"
)

// serveIn runs serve in this process until the function that it returns is called, or the test ends.
func serveIn(t *testing.T, args ...string) (c *client.Client, stop func()) {
	t.Helper()
	addr := freeport.For(t)
	var line cli
	parser, err := kong.New(&line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve", "--listen", addr, "--log-level", "warn"}, args...)); err != nil {
		t.Fatal(err)
	}
	signals, served, code := make(chan os.Signal, 1), make(chan error, 1), 0
	var log bytes.Buffer
	go func() { served <- line.Serve.serve(streams{io.Discard, &log}, signals, &code) }()
	if err := serving(addr); err != nil {
		t.Fatal(err)
	}
	if c, err = client.New(addr); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		signals <- syscall.SIGTERM
		if err := <-served; err != nil || code != exitOK {
			t.Errorf("serve %v = %v with code %d; log:\n%s", args, err, code, log.String())
		}
	})
	t.Cleanup(stop)
	return c, stop
}

// execute runs a command line and returns its code and all that it says.
func execute(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = run(args, streams{&b, &b})
	return code, b.String()
}

// contents opens a broker over journals and counts what it has.
func contents(t *testing.T, store uint32, shards int, open func(shard uint16) (journal.Journal, error)) broker.Contents {
	t.Helper()
	b, err := broker.Open(broker.Config{Store: store, Shards: shards, Journal: open})
	if err != nil {
		t.Fatal(err)
	}
	all := b.Contents()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A stock is what a service is filled with, and what has to be found again.
type stock struct {
	full, fresh client.Pipe // with three replies, and with none
	waits       handles.Handle
	queues      int
}

// fill puts messages into queues on all shards, of which some get dead, and replies into pipes.
func fill(t *testing.T, c *client.Client) stock {
	t.Helper()
	ctx := t.Context()
	s := stock{queues: 24}
	var err error
	if s.full, err = c.OpenPipe(ctx, client.PipeOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := c.Reply(ctx, s.full.Send, client.Answer{Payload: fmt.Append(nil, "reply ", i)}, client.WithMore()); err != nil {
			t.Fatal(err)
		}
	}
	if s.fresh, err = c.OpenPipe(ctx, client.PipeOptions{}); err != nil {
		t.Fatal(err)
	}
	for q := range s.queues {
		queue := fmt.Sprint("q", q)
		for i := range 5 {
			if _, err := c.Enqueue(ctx, queue, client.Message{Payload: fmt.Append(nil, queue, " ", i)}, client.WithPriority(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Enqueue(ctx, queue, client.Message{Payload: []byte("later")}, client.WithDelay(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	consumer, err := c.Consume(ctx, client.ConsumeConfig{MaxDeliveries: 1}, "q0", "q1", "q2", "q3")
	for err == nil {
		var d *client.Delivery
		if d, err = consumer.Next(ctx); err == nil {
			err = d.Reject(ctx, "unfit")
		}
	}
	if !errors.Is(err, client.ErrStopped) {
		t.Fatal(err)
	}
	receipt, err := c.Enqueue(ctx, "work", client.Message{Payload: []byte("question")}, client.WithPipe(client.PipeOptions{Timeout: time.Hour}))
	if err != nil {
		t.Fatal(err)
	}
	s.waits = receipt.ReceiveHandle
	return s
}

// messages lists all there are, dead ones too.
func (s stock) messages(t *testing.T, c *client.Client) map[string][]*queuepb.MessageInfo {
	t.Helper()
	all := make(map[string][]*queuepb.MessageInfo)
	queues, err := c.Queues(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		for m, err := range c.Messages(t.Context(), q.GetName(), queuepb.MessageState_MESSAGE_STATE_UNSPECIFIED, 0) {
			if err != nil {
				t.Fatal(err)
			}
			all[q.GetName()] = append(all[q.GetName()], m)
		}
	}
	if len(all) != s.queues+1 {
		t.Errorf("there are messages in %d queues, want %d", len(all), s.queues+1)
	}
	return all
}

// use does with handles from before what they are for.
func (s stock) use(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Reply(ctx, s.full.Send, client.Answer{Payload: []byte("reply 3")}); err != nil {
		t.Errorf("reply by a handle from before: %v", err)
	}
	var got []string
	for r, err := range c.Receive(ctx, s.full.Receive, 0) {
		if err != nil {
			t.Errorf("receive by a handle from before: %v", err)
			break
		}
		got = append(got, string(r.Payload))
	}
	if diff := cmp.Diff([]string{"reply 0", "reply 1", "reply 2", "reply 3"}, got); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
	consumer, err := c.Consume(ctx, client.ConsumeConfig{MaxDeliveries: 1}, "work")
	if err != nil {
		t.Fatal(err)
	}
	d, err := consumer.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reply(ctx, client.Answer{Payload: []byte("answer")}); err != nil {
		t.Fatal(err)
	}
	for r, err := range c.Receive(ctx, s.waits, 0) {
		if err != nil || string(r.Payload) != "answer" {
			t.Errorf("the answer to a message from before: %q, %v", r.Payload, err)
		}
	}
	if cancelled, _, err := c.Cancel(ctx, s.fresh.Receive, ""); err != nil || !cancelled {
		t.Errorf("cancel a pipe from before: %v, %v", cancelled, err)
	}
}

// TestMove: all that a directory had is found in NATS, under the same handles, and the directory is not used any more.
func TestMove(t *testing.T) {
	nats := natstest.Start(t, natstest.Options{})
	dir := filepath.Join(t.TempDir(), "data")
	c, stop := serveIn(t, "--data-dir", dir, "--allow-tmpfs", "--shards", "3")
	s := fill(t, c)
	before := s.messages(t, c)
	if code, out := execute("move", "--data-dir", dir, "--nats-url", nats.URL(), "--nats-replicas", "1"); code != exitFailed || !strings.Contains(out, "in use") {
		t.Errorf("move while a server runs = %d, %s", code, out)
	}
	stop()

	store, err := disk.Open(dir, disk.Options{AllowMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	kept := contents(t, store.Number(), 3, func(shard uint16) (journal.Journal, error) { return store.Journal(int(shard)) })
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	cutShort(t, cluster.Options{URL: nats.URL(), Replicas: 1, Shards: 3, Number: store.Number(), Fill: true, Node: "move"})
	if code, out := execute("serve", "--nats-url", nats.URL(), "--nats-replicas", "1", "--shards", "3", "--listen", "127.0.0.1:0",
		"--key-file", filepath.Join(dir, "handle-keys")); code != exitFailed || !strings.Contains(out, "is being filled") {
		t.Errorf("serve what was not moved to the end = %d, %s", code, out)
	}

	code, out := execute("move", "--data-dir", dir, "--nats-url", nats.URL(), "--nats-replicas", "1")
	if code != exitOK || !strings.Contains(out, "3 shards") || !strings.Contains(out, filepath.Join(dir, "handle-keys")) {
		t.Fatalf("move = %d, %s", code, out)
	}
	if code, out := execute("check", dir); code != exitOK {
		t.Errorf("check of what was moved = %d, %s", code, out)
	}
	if code, out := execute("serve", "--data-dir", dir, "--allow-tmpfs"); code != exitFailed || !strings.Contains(out, filepath.Join(dir, "moved")) {
		t.Errorf("serve what was moved = %d, %s", code, out)
	}
	if code, out := execute("move", "--data-dir", dir, "--nats-url", nats.URL(), "--nats-replicas", "1"); code != exitOK || !strings.Contains(out, "nothing was done") {
		t.Errorf("move again = %d, %s", code, out)
	}

	moved, err := cluster.Open(t.Context(), cluster.Options{URL: nats.URL(), Replicas: 1, Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	found := contents(t, moved.Number(), 3, func(shard uint16) (journal.Journal, error) { return moved.Take(t.Context(), int(shard)) })
	if err := moved.Close(); err != nil {
		t.Fatal(err)
	}
	if moved.Number() != store.Number() || found != kept || kept.Messages < s.queues || kept.Pipes < 3 {
		t.Errorf("in NATS there is %+v of store %d, on disk there was %+v of %d", found, moved.Number(), kept, store.Number())
	}

	c, _ = serveIn(t, "--nats-url", nats.URL(), "--nats-replicas", "1", "--key-file", filepath.Join(dir, "handle-keys"), "--node", "a")
	if diff := cmp.Diff(before, s.messages(t, c), protocmp.Transform()); diff != "" {
		t.Errorf("messages (-before +after):\n%s", diff)
	}
	s.use(t, c)
}

// cutShort leaves what a move does that is cut short.
func cutShort(t *testing.T, o cluster.Options) {
	t.Helper()
	s, err := cluster.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Take(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), []byte("of a try that was cut short")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMoveRefuses: what is there already stays.
func TestMoveRefuses(t *testing.T) {
	nats := natstest.Start(t, natstest.Options{})
	dir := filepath.Join(t.TempDir(), "data")
	if code, out := execute("move", "--data-dir", dir, "--nats-url", nats.URL(), "--nats-replicas", "1"); code != exitFailed {
		t.Errorf("move of nothing = %d, %s", code, out)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made: %v", err)
	}
	store, err := disk.Open(dir, disk.Options{AllowMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := cluster.Open(t.Context(), cluster.Options{URL: nats.URL(), Replicas: 1, Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	move := []string{"move", "--data-dir", dir, "--nats-url", nats.URL(), "--nats-replicas", "1"}
	if code, out := execute(append(move, "--nats-name", "other")...); code != exitFailed || !strings.Contains(out, "of another service") {
		t.Errorf("move to another service = %d, %s", code, out)
	}
	if code, out := execute(move...); code != exitOK {
		t.Fatalf("move = %d, %s", code, out)
	}
	if err := os.Remove(filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if code, out := execute(move...); code != exitFailed || !strings.Contains(out, "nats stream rm REPLYQ_main") {
		t.Errorf("move when the mark was removed = %d, %s", code, out)
	}
	if store, err = disk.Open(dir, disk.Options{AllowMemory: true}); err != nil {
		t.Errorf("without the mark the directory can not be opened: %v", err)
	} else if err := store.Close(); err != nil {
		t.Error(err)
	}
}
