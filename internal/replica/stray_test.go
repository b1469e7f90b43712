package replica_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/faultnet"
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

	away := isolate(t, c, conn.ConnectedServerName())
	leaves(t, conn, away)
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

// TestStrayedReplicaWithOneConnection: a replica may be allowed no second connection, to try other NATS servers by. Then it leaves the
// one that is cut off all the same, and goes on until it has found one that is of use.
func TestStrayedReplicaWithOneConnection(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{Nodes: 3, Partitions: true})
	var only onlyConn
	var addresses []string
	for i := range c.Nodes() {
		to := c.Node(i).Address()
		p, err := faultnet.ListenVia(func(ctx context.Context) (net.Conn, error) { return only.dial(ctx, to) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		addresses = append(addresses, "nats://"+p.Addr())
	}
	n := mustJoin(t, strings.Join(addresses, ","), "a", newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now())))
	n.until(t, "it serves", func() bool { return n.owns() != nil })
	conn, bucket := n.store.Conn(), n.store.Bucket()
	c.AwaitCurrent("KV_" + bucket.Bucket())
	away := isolate(t, c, conn.ConnectedServerName())
	leaves(t, conn, away)
	n.until(t, "it serves again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := bucket.Put(ctx, "test", nil)
		return err == nil && n.owns() != nil
	})
	if refused := only.refused.Load(); refused == 0 {
		t.Error("no second connection was tried")
	}
}

// isolate cuts a server off from the others.
func isolate(t *testing.T, c *natstest.Cluster, name string) string {
	t.Helper()
	for i := range c.Nodes() {
		if c.Node(i).Name() == name {
			c.Isolate(i)
			return name
		}
	}
	t.Fatalf("there is no server %q", name)
	return ""
}

// leaves waits until a connection is one to another server.
func leaves(t *testing.T, conn *nats.Conn, away string) {
	t.Helper()
	limit := time.Now().Add(time.Minute)
	for !conn.IsConnected() || conn.ConnectedServerName() == away {
		if time.Now().After(limit) {
			t.Fatal("after a minute it is still connected to a NATS server that is cut off from the others")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// An onlyConn makes connections, one at a time.
type onlyConn struct {
	open    atomic.Bool
	refused atomic.Int64
}

func (o *onlyConn) dial(ctx context.Context, to string) (net.Conn, error) {
	if !o.open.CompareAndSwap(false, true) {
		o.refused.Add(1)
		return nil, errors.New("there is a connection already")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		o.open.Store(false)
		return nil, err
	}
	return &onlyOpen{Conn: c, of: o}, nil
}

// An onlyOpen is the one that is open.
type onlyOpen struct {
	net.Conn
	of   *onlyConn
	once sync.Once
}

// Close implements net.Conn.
func (c *onlyOpen) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.of.open.Store(false) })
	return err
}
