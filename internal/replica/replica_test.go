package replica_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/internal/replica"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A place notes what a replica tells its server.
type place struct {
	mu      sync.Mutex
	broker  *broker.Broker
	address string
	unready bool
	along   int           // how many messages it had read along when it opened its broker
	changed chan struct{} // cap 1
}

func (p *place) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *place) Own(b *broker.Broker)  { p.set(func() { p.broker, p.address = b, "" }) }
func (p *place) Relay(address string)  { p.set(func() { p.broker, p.address = nil, address }) }
func (p *place) SetReady(ready bool)   { p.set(func() { p.unready = !ready }) }
func (p *place) ready() bool           { p.mu.Lock(); defer p.mu.Unlock(); return !p.unready }
func (p *place) read() int             { p.mu.Lock(); defer p.mu.Unlock(); return p.along }
func (p *place) owns() *broker.Broker  { p.mu.Lock(); defer p.mu.Unlock(); return p.broker }
func (p *place) relays(to string) bool { p.mu.Lock(); defer p.mu.Unlock(); return p.address == to }

// until waits for what the replica tells.
func (p *place) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !f() {
		select {
		case <-p.changed:
		case <-limit:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// A node is a replica without a server.
type node struct {
	*replica.Replica
	*place
	name  string
	store *cluster.Store
}

func join(t *testing.T, url, name string, keys *handles.KeyRing) (*node, error) {
	t.Helper()
	return joinWith(t, url, name, keys, nil)
}

// joinWith is join, with something done before a broker is opened.
func joinWith(t *testing.T, url, name string, keys *handles.KeyRing, before func([]journal.Journal) error) (*node, error) {
	t.Helper()
	store, err := cluster.Open(t.Context(), cluster.Options{URL: url, Replicas: strings.Count(url, ",") + 1, Shards: 2, Node: name})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{place: &place{changed: make(chan struct{}, 1)}, name: name, store: store}
	n.Replica, err = replica.Join(t.Context(), replica.Config{
		Store: store, Node: name, Address: name + ":1", Keys: keys, Server: n.place,
		Open: func(journals []journal.Journal, along *broker.Standby, lease func() bool) (*broker.Broker, error) {
			if along != nil {
				n.set(func() { n.along = along.Read().Messages })
			}
			if before != nil {
				if err := before(journals); err != nil {
					return nil, err
				}
			}
			return broker.Open(broker.Config{
				Store: store.Number(), Shards: len(journals), Lease: lease, Standby: along,
				Journal: func(shard uint16) (journal.Journal, error) { return journals[shard], nil },
			})
		},
	})
	if err != nil {
		_ = store.Close()
		return nil, fmt.Errorf("join %s: %w", name, err)
	}
	t.Cleanup(n.close)
	return n, nil
}

func (n *node) close() {
	if n.store != nil {
		_ = n.Replica.Close()
		_ = n.store.Close()
		n.store = nil
	}
}

func newKeys(t *testing.T, line string) *handles.KeyRing {
	t.Helper()
	keys, err := handles.ParseKeys("test", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func mustJoin(t *testing.T, url, name string, keys *handles.KeyRing) *node {
	t.Helper()
	n, err := join(t, url, name, keys)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReplicas: the first one serves and the others relay to it; it hands over when it leaves, and when it is gone without a
// word another one takes over; each has what those before it have confirmed. A replica with other keys is not let in.
func TestReplicas(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{}).URL()
	line := handles.GenerateKeyLine(0, "mint", time.Now())
	keys := newKeys(t, line)
	a := mustJoin(t, url, "a", keys)
	a.until(t, "a serves", func() bool { return a.owns() != nil })
	enqueue(t, a.owns(), "one")
	b, c := mustJoin(t, url, "b", keys), mustJoin(t, url, "c", keys)
	for _, n := range []*node{b, c} {
		n.until(t, "it relays to a", func() bool { return n.relays("a:1") })
	}
	if _, err := join(t, url, "d", newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now()))); err == nil || !strings.Contains(err.Error(), "--key-file") {
		t.Errorf("a replica with other keys joins: %v", err)
	}

	a.Leave(t.Context())
	next, other := b, c
	for next.owns() == nil {
		next, other = other, next
		if next.owns() == nil {
			select {
			case <-b.changed:
			case <-c.changed:
			}
		}
	}
	for _, n := range []*node{a, other} {
		to := "b:1"
		if next == c {
			to = "c:1"
		}
		n.until(t, "it relays to "+to, func() bool { return n.relays(to) })
	}
	if next.read() != 1 {
		t.Errorf("it had read %d messages along, want 1", next.read())
	}
	enqueue(t, next.owns(), "two")
	a.close()

	next.store.Conn().Close() // it can renew nothing, as if it was cut off
	other.until(t, "the other one serves", func() bool { return other.owns() != nil })
	next.until(t, "it says that it is not ready", func() bool { return !next.ready() })
	if !other.ready() {
		t.Error("the one that serves is not ready")
	}
	if got := other.owns().Contents(); got.Messages != 2 {
		t.Errorf("%d messages are left, want 2", got.Messages)
	}
	members, err := other.Members(t.Context())
	if err != nil || len(members) != 2 {
		t.Errorf("Members() = %v, %v, want b and c", members, err)
	}
	for _, m := range members {
		if (m.Address == "b:1") != (m.Node == "b") || m.This && !m.Alive {
			t.Errorf("Members() has %+v", m)
		}
	}
}

// TestHeirIsGone: the owner leaves, and the replica that it chooses is dead without a word. Another one takes over.
func TestHeirIsGone(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{}).URL()
	keys := newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now()))
	a := mustJoin(t, url, "a", keys)
	a.until(t, "a serves", func() bool { return a.owns() != nil })
	enqueue(t, a.owns(), "one")
	b, c := mustJoin(t, url, "b", keys), mustJoin(t, url, "c", keys)
	for _, n := range []*node{b, c} {
		n.until(t, "it relays to a", func() bool { return n.relays("a:1") })
	}
	b.store.Conn().Close()
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.Leave(t.Context())
	}()
	c.until(t, "c serves", func() bool { return c.owns() != nil })
	<-left
	if got := c.owns().Contents(); got.Messages != 1 {
		t.Errorf("%d messages are left, want 1", got.Messages)
	}
}

// enqueue stores a message, and waits for the receipt.
func enqueue(t *testing.T, b *broker.Broker, queue string) {
	t.Helper()
	s := b.Attach(broker.Identity{Tenant: 1, TenantName: "default", Principal: "p"}, broker.SessionOptions{})
	defer s.Close()
	s.Submit([]broker.Op{{ID: 1, Request: &broker.Enqueue{Queue: queue, Body: []byte("m")}}})
	var events []broker.Event
	for limit := time.After(time.Minute); len(events) == 0; events = s.Take(events) {
		select {
		case <-s.Ready():
		case <-limit:
			t.Fatal("no receipt within a minute")
		}
	}
	if _, ok := events[0].Body.(*broker.Receipt); !ok {
		t.Fatalf("enqueue: %v", events[0].Body)
	}
}
