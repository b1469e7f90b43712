// Package natstest runs real NATS servers, each in a process of its own, for tests: starts, kills and pauses them.
package natstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/internal/freeport"
)

// patience is how long a cluster may take to be ready.
const patience = time.Minute

// Options say what cluster to start.
type Options struct {
	Nodes      int           // how many servers; 0 is 1
	Sync       bool          // fsync each message before it is confirmed (sync_interval: always)
	MaxPayload string        // "" is what servers have by themselves, 1MB
	Extra      string        // more of each server's configuration, as it stands in its file: users, TLS
	Client     []nats.Option // how this package connects, if not every client may
	Partitions bool          // routes go through proxies, for Isolate
}

// A Cluster is some NATS servers with JetStream. They end with the test.
type Cluster struct {
	t      testing.TB
	nodes  []*Node
	client []nats.Option
	ways   []way
}

// Start starts a cluster and waits until JetStream can be used.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	path := Binary(t)
	o.Nodes = max(o.Nodes, 1)
	if o.MaxPayload == "" {
		o.MaxPayload = "1MB"
	}
	peers := make([]string, o.Nodes)
	for i := range peers {
		peers[i] = freeport.For(t)
	}
	c := &Cluster{t: t, client: o.Client}
	for i := range o.Nodes {
		c.nodes = append(c.nodes, newNode(t, path, o, i, peers[i], c.routes(i, peers, o.Partitions)))
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.Wait()
	return c
}

// URL has the addresses of all nodes.
func (c *Cluster) URL() string {
	urls := make([]string, 0, len(c.nodes))
	for _, n := range c.nodes {
		urls = append(urls, n.URL())
	}
	return strings.Join(urls, ",")
}

// Nodes returns how many nodes there are.
func (c *Cluster) Nodes() int { return len(c.nodes) }

// Node returns a node by its index.
func (c *Cluster) Node(i int) *Node { return c.nodes[i] }

// Kill ends a node with SIGKILL; what it had stored stays.
func (c *Cluster) Kill(i int) { c.t.Helper(); c.nodes[i].kill() }

// Stop ends a node in order.
func (c *Cluster) Stop(i int) { c.t.Helper(); c.nodes[i].stop() }

// Restart starts a node that was ended, with what it had stored. It does not wait until the node takes part: see
// [Cluster.Wait].
func (c *Cluster) Restart(i int) { c.t.Helper(); c.nodes[i].kill(); c.nodes[i].start() }

// Pause stops a node with SIGSTOP: its connections stay, and nothing answers.
func (c *Cluster) Pause(i int) { c.t.Helper(); c.nodes[i].pause() }

// Resume lets a paused node go on.
func (c *Cluster) Resume(i int) { c.t.Helper(); c.nodes[i].resume() }

// Leader returns the index of the node that leads a stream.
func (c *Cluster) Leader(stream string) int {
	c.t.Helper()
	if len(c.nodes) == 1 {
		return 0
	}
	leader := -1
	c.until("a leader of "+stream, func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err //nolint:wrapcheck // only printed
		}
		cluster := s.CachedInfo().Cluster
		if cluster == nil {
			return errors.New("not clustered")
		}
		for i, n := range c.nodes {
			if n.Name() == cluster.Leader {
				leader = i
				return nil
			}
		}
		return fmt.Errorf("the leader is %q", cluster.Leader)
	})
	return leader
}

// AwaitCurrent waits until a stream has a leader, and all nodes have all of it.
func (c *Cluster) AwaitCurrent(stream string) {
	c.t.Helper()
	c.until("replicas of "+stream+" that are current", func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err //nolint:wrapcheck // only printed
		}
		cluster := s.CachedInfo().Cluster
		if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != len(c.nodes)-1 {
			return errors.New("it has no leader")
		}
		for _, r := range cluster.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("%s is not", r.Name)
			}
		}
		return nil
	})
}

// Delete deletes streams.
func (c *Cluster) Delete(streams ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.once(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		var errs []error
		for _, s := range streams {
			if err := js.DeleteStream(ctx, s); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				errs = append(errs, fmt.Errorf("delete stream %s: %w", s, err))
			}
		}
		return errors.Join(errs...)
	})
}

// Wait waits until JetStream can be used: a meta leader is there and a stream can be made on as many nodes as there are.
func (c *Cluster) Wait() {
	c.t.Helper()
	c.until("JetStream", func(ctx context.Context, js jetstream.JetStream) error {
		const name = "NATSTEST"
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Replicas: len(c.nodes)})
		if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err //nolint:wrapcheck // only printed
		}
		return js.DeleteStream(ctx, name) //nolint:wrapcheck // only printed
	})
}

// until repeats try until it succeeds.
func (c *Cluster) until(what string, try func(context.Context, jetstream.JetStream) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for {
		err := c.once(ctx, try)
		if err == nil {
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			c.t.Fatalf("natstest: no %s: %v%s", what, err, c.logs())
		}
	}
}

func (c *Cluster) once(ctx context.Context, try func(context.Context, jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	nc, err := nats.Connect(c.URL(), append([]nats.Option{nats.Timeout(time.Second), nats.NoReconnect()}, c.client...)...)
	if err != nil {
		return err //nolint:wrapcheck // only printed
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err //nolint:wrapcheck // only printed
	}
	return try(ctx, js)
}

func (c *Cluster) logs() string {
	var b strings.Builder
	for _, n := range c.nodes {
		fmt.Fprintf(&b, "\n--- %s\n%s", n.Name(), n.tail())
	}
	return b.String()
}
