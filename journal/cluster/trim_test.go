package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

// A shard in which nothing happens holds the stream's head, says so, and lets go of it when it trims.
func TestTrimming(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{})
	o := cluster.Options{URL: c.URL(), Replicas: 1, Shards: 3, Node: "a"}
	s := open(t, o)
	idle, busy := take(t, s, 0), take(t, s, 1)
	write(t, idle, "old")
	lagging := func(j journal.Journal) bool {
		l, ok := j.(interface{ Lagging() bool })
		return ok && l.Lagging()
	}
	large := noise(1 << 20)
	position := journal.Position(0)
	fill := func() {
		for range 100 {
			var err error
			if position, err = busy.Append(t.Context(), large); err != nil {
				t.Fatal(err)
			}
		}
		if err := busy.Trim(t.Context(), position); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	eventually(t, "the idle shard lags", func() bool { return lagging(idle) })
	if lagging(busy) {
		t.Error("the busy shard lags, but the idle one holds the head")
	}
	write(t, idle, "new")
	if err := idle.Trim(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing lags", func() bool { return !lagging(idle) })
	fill()
	stream, err := jetStream(t, c).Stream(t.Context(), "REPLYQ_main")
	if err != nil {
		t.Fatal(err)
	}
	write(t, idle, "newer")
	if err := idle.Trim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is short", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Bytes < 40<<20
	})
	again := open(t, o)
	wantContent(t, take(t, again, 0), "newer")
	if got := content(t, take(t, again, 1)); len(got) != 1 {
		t.Errorf("the busy shard has %d batches, want the last one", len(got))
	}
}

// eventually waits for something that happens in the background.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		}
	}
}
