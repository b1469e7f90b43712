package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A State is what NATS tells of the stream.
type State struct {
	Bytes, Messages uint64   // in the stream
	Shards          []uint64 // messages of each shard in it
	Servers         []Server // that keep a copy, by name
}

// A Server is a NATS server that keeps a copy of the stream.
type Server struct {
	Name    string
	Leader  bool
	Current bool   // it has all that is kept
	Offline bool   // the leader does not hear of it, or has not for some seconds
	Lag     uint64 // operations that it is behind
}

// offlineTime is how long the leader has not heard of a server that is taken for offline. Each answers it once a second. By
// itself NATS tells that of one that was stopped in order; one that was killed passes for current for 10 s, and for slow a
// minute and more.
const offlineTime = 4 * time.Second

// State asks the stream's leader.
func (s *Store) State(ctx context.Context) (State, error) {
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(s.subjects()))
	if err != nil {
		return State{}, fmt.Errorf("cluster: ask about the stream %s: %w", s.streamName(), err)
	}
	st := State{Bytes: info.State.Bytes, Messages: info.State.Msgs, Servers: s.servers(info.Cluster)}
	for shard := range s.options.Shards {
		st.Shards = append(st.Shards, info.State.Subjects[s.subject(shard)])
	}
	return st, nil
}

// servers are those of a cluster: nil if NATS is one server.
func (s *Store) servers(c *jetstream.ClusterInfo) []Server {
	if c == nil || c.Leader == "" && len(c.Replicas) == 0 {
		return []Server{{Name: s.conn.ConnectedServerName(), Leader: true, Current: true}}
	}
	var all []Server
	if c.Leader != "" {
		all = append(all, Server{Name: c.Leader, Leader: true, Current: true})
	}
	for _, p := range c.Replicas {
		offline := p.Offline || p.Active > offlineTime
		all = append(all, Server{Name: p.Name, Current: p.Current && !offline, Offline: offline, Lag: p.Lag})
	}
	slices.SortFunc(all, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// A Shard is what a shard's log tells of it.
type Shard struct {
	Fence
	Needed uint64 // batches that are not trimmed
}

// Shard reads the end of a shard's log.
func (s *Store) Shard(ctx context.Context, shard int) (Shard, error) {
	t, err := s.tail(ctx, shard)
	if err != nil {
		return Shard{}, err
	}
	next := t.position
	if t.kind == batchKind {
		next++
	}
	return Shard{Fence: Fence{Epoch: t.epoch, Node: t.node}, Needed: uint64(next - min(max(t.from, 1), max(next, 1)))}, nil
}

// Connected names the NATS server that the store is connected to, and its version; both are empty if it is not.
func (s *Store) Connected() (name, version string) {
	if !s.conn.IsConnected() {
		return "", ""
	}
	return s.conn.ConnectedServerName(), s.conn.ConnectedServerVersion()
}

// Stream is the name of the stream.
func (s *Store) Stream() string { return s.streamName() }

// Copies is how many servers shall keep the stream.
func (s *Store) Copies() int { return s.options.Replicas }
