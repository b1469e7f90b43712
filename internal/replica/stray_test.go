package replica_test

import (
	"context"
	"testing"
	"time"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// TestStrayedReplica: a replica whose NATS server is cut off from the others, which that one does not tell, goes to one that
// is of use, and neither leaves that one nor asks the one that is cut off.
func TestStrayedReplica(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{Nodes: 3, Partitions: true})
	n := mustJoin(t, c.URL(), "a", newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now())))
	n.until(t, "it serves", func() bool { return n.owns() != nil })
	conn, bucket := n.store.Conn(), n.store.Bucket()
	stream := "KV_" + bucket.Bucket()
	c.AwaitCurrent(stream)

	away := -1
	for i := range c.Nodes() {
		if c.Node(i).Name() == conn.ConnectedServerName() {
			away = i
		}
	}
	c.Isolate(away)
	limit := time.Now().Add(time.Minute)
	for !conn.IsConnected() || conn.ConnectedServerName() == c.Node(away).Name() {
		if time.Now().After(limit) {
			t.Fatal("after a minute it is still connected to a NATS server that is cut off from the others")
		}
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.Leader(stream)
	went := conn.ConnectedServerName()
	for range 20 {
		if _, err := bucket.Put(ctx, "test", nil); err != nil {
			t.Fatalf("the server that it went to keeps nothing: %v", err)
		}
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := cluster.LastMessage(asking, conn, stream, "$KV."+bucket.Bucket()+".owner")
		cancel()
		if err != nil {
			t.Fatalf("who is the owner is asked of a server that is cut off: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if now := conn.ConnectedServerName(); now != went {
		t.Errorf("it went from %s to %s, though that was of use", went, now)
	}
}
