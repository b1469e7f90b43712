package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/history"
)

// A server with a journal is killed under load, over and over: nothing that it has confirmed is lost, nothing that was
// acked comes again, and all who wait get their answers.
func TestP01KilledServers(t *testing.T) {
	t.Parallel()
	const cycles = 4
	inShards(t, func(t *testing.T, shards string) {
		r := newRig(t, shards)
		for range scaled(t, 1) {
			n := r.begin()
			for range cycles {
				n.pass(700 * time.Millisecond)
				n.crash(n.kill)
			}
			n.finish(strict())
		}
		t.Logf("the slowest start took %v", r.slowest.Round(time.Millisecond))
	})
}

// inShards runs a test with all in one shard, and once more with several: what goes from one to another has to survive, too.
func inShards(t *testing.T, test func(t *testing.T, flag string)) {
	t.Helper()
	for _, flag := range []string{"--shards=1", "--shards=4"} {
		t.Run(flag[2:], func(t *testing.T) { test(t, flag) })
	}
}

// A server without a journal loses what it has when it is killed, and the check of the history sees that.
func TestLossIsSeen(t *testing.T) {
	t.Parallel()
	const stored = 100
	r := newRigOf(t, localServer, nil)
	n := r.begin()
	enqueueMany(t.Context(), t, r.quick(), n.history, "stored", stored, 100, 1000)
	n.pass(500 * time.Millisecond)
	n.crash(n.kill)
	n.pass(200 * time.Millisecond)
	report := n.end(history.Rules{})
	if lost := len(report.LostPrefix) + len(report.LostMiddle) + len(report.LostPostfix); lost < stored || len(report.QueuesGone) == 0 {
		t.Errorf("what was lost was not seen: %v", report)
	}
}

// What a lazy server has confirmed, the system has: a kill loses nothing of it.
func TestP01KilledLazyServers(t *testing.T) {
	t.Parallel()
	const cycles = 4
	r := newRig(t, "--fsync-interval", "1s")
	for range scaled(t, 1) {
		n := r.begin()
		for range cycles {
			n.pass(time.Second)
			n.crash(n.kill)
		}
		n.finish(strict())
	}
}

// A server that is killed while it reads its journal, several times in a row, reads all of it in the end.
func TestP01KilledWhileItStarts(t *testing.T) {
	t.Parallel()
	const kills = 5
	r := newRig(t)
	for range scaled(t, 1) {
		n := r.begin()
		n.pass(time.Second)
		n.crash(func() {
			n.kill()
			for range kills {
				n.launch()
				<-time.After(time.Duration(r.random.Int64N(int64(max(r.slowest, time.Millisecond)))))
				n.kill()
			}
		})
		n.finish(strict())
	}
}

// A message whose every delivery kills the server, and the worker with it, becomes a dead message, and who waits for it
// learns it.
func TestP10MessageThatKillsTheServer(t *testing.T) {
	t.Parallel()
	const failures = 3
	r := newRig(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	c := r.quick()
	if _, err := c.CreateQueue(ctx, "poison", &queuepb.QueueConfig{MaxFailures: failures}); err != nil {
		t.Fatal(err)
	}
	call := c.Call(ctx, "poison", client.Message{Payload: []byte(canary)})
	if _, err := call.Receipt(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := call.One()
		ended <- err
	}()
	kills := 0
	for r.poison(ctx, ended) {
		if kills++; kills > failures {
			t.Fatalf("after %d kills it was delivered again", failures)
		}
	}
	if err := <-ended; !errors.Is(err, client.ErrDeadLettered) {
		t.Errorf("the call ended with %v, want DEAD_LETTERED", err)
	}
	t.Logf("dead after %d kills", kills)
	if s := r.statistics(t, "poison"); s.Dead != 1 || s.Ready+s.InFlight+s.Delayed != 0 {
		t.Errorf("queue poison has %v, want one dead message", s)
	}
}

// poison waits for the delivery that kills server and worker, and starts the server again. It returns false if the call
// ends instead, whose end it leaves in the channel.
func (r *rig) poison(ctx context.Context, ended chan error) bool {
	r.t.Helper()
	worker := r.quick()
	consumer, err := worker.Consume(ctx, client.ConsumeConfig{}, "poison")
	if err != nil {
		r.t.Fatal(err)
	}
	waiting, leave := context.WithCancel(ctx)
	defer leave()
	delivered := make(chan error, 1)
	go func() {
		_, err := consumer.Next(waiting)
		delivered <- err
	}()
	select {
	case err := <-delivered:
		if err != nil {
			r.t.Fatal(err)
		}
	case err := <-ended:
		ended <- err
		leave()
		if err := <-delivered; err == nil {
			r.t.Error("the message was delivered after its call had ended")
		}
		return false
	}
	r.kill()
	if err := worker.Close(); err != nil {
		r.t.Error(err)
	}
	r.start()
	return true
}

// However much is stored, a server that was killed delivers again soon. In `make soak` that is a million messages.
func TestP19ServesSoonAgain(t *testing.T) {
	t.Parallel()
	const limit = 10 * time.Second
	stored := scaledTo(t, 20_000, 1_000_000)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	r := newRig(t)
	enqueueMany(ctx, t, r.quick(), history.New(), "stored", stored, 200, 1000)
	r.kill()
	began := time.Now()
	r.start()
	consumer, err := r.quick().Consume(ctx, client.ConsumeConfig{}, "stored")
	if err != nil {
		t.Fatal(err)
	}
	d, err := consumer.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("with %d messages the first delivery came %v after the start", stored, took.Round(time.Millisecond))
	if took > limit {
		t.Errorf("promised are %v", limit)
	}
	if id, _, err := history.Parse(d.Payload); err != nil || id.Counter != 0 {
		t.Errorf("the first delivery is of message %d (%v), want 0", id.Counter, err)
	}
	if s := r.statistics(t, "stored"); s.Ready != uint64(stored-1) || s.InFlight != 1 {
		t.Errorf("the queue has %v, want %d messages", s, stored)
	}
}

// enqueueMany stores messages of a size, so many in a batch, and notes them.
func enqueueMany(ctx context.Context, t *testing.T, c *client.Client, h *history.History, queue string, n, size, batch int) {
	t.Helper()
	for from := 0; from < n; from += batch {
		var items []client.Item
		var ends []func(history.Event)
		for i := from; i < min(from+batch, n); i++ {
			id := history.ID{Producer: queue, Counter: i}
			items = append(items, client.Item{Queue: queue, Message: client.Message{Payload: history.Payload(id, "none", size)}})
			ends = append(ends, h.Begin(history.Event{What: history.Sent, ID: id, Queue: queue}))
		}
		results, err := c.EnqueueBatch(ctx, items...)
		if err != nil {
			t.Fatal(err)
		}
		for i, result := range results {
			if result.Err != nil {
				t.Fatal(result.Err)
			}
			ends[i](history.Event{What: history.Accepted, Message: result.Receipt.MessageID})
		}
	}
}
