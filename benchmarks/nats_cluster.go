package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Three NATS nodes with JetStream, each in a process of its own, that sync whatever they store before they confirm it.

// clusterNodes is how many nodes there are, and how many replicas of everything.
const clusterNodes = 3

// A natsNode is what a node is told.
type natsNode struct {
	Number int
	Ports  []string // of the nodes for each other
	Folder string
}

func (n *natsNode) name() string { return natsNodeName(n.Number) }

func natsNodeName(i int) string { return "n" + strconv.Itoa(i) }

// startNATSNode is the role.
func startNATSNode(j *job) (*part, error) {
	n := j.Node
	port, err := strconv.Atoi(n.Ports[n.Number])
	if err != nil {
		return nil, err
	}
	o := &natsserver.Options{
		ServerName: n.name(), JetStream: true, StoreDir: filepath.Join(n.Folder, n.name()), SyncAlways: true,
		Cluster: natsserver.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: port},
	}
	for _, p := range n.Ports {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: "127.0.0.1:" + p})
	}
	return startNATS(o)
}

// A natsCluster is the nodes, as the process that has started them sees them.
type natsCluster struct {
	folder  string
	nodes   []*process
	release func() // the ports
}

// startNATSCluster returns when JetStream can be used.
func startNATSCluster() (c *natsCluster, err error) {
	folder, err := os.MkdirTemp("", "replyq-bench-nats-")
	if err != nil {
		return nil, err
	}
	c = &natsCluster{folder: folder, release: func() {}}
	defer func() {
		if err != nil {
			c.remove()
		}
	}()
	ports, release, err := freePorts(clusterNodes)
	if err != nil {
		return nil, err
	}
	c.release = release
	for i := range clusterNodes {
		p, err := spawn("", job{System: natsNodeName(i), Role: roleNode, Node: &natsNode{Number: i, Ports: ports, Folder: folder}},
			runtime.GOMAXPROCS(0))
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, p)
	}
	return c, c.await()
}

// await makes a stream with a replica on each node, again and again, until that succeeds.
func (c *natsCluster) await() error {
	const name = "AWAIT"
	return c.do(func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Replicas: clusterNodes})
		if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		return js.DeleteStream(ctx, name)
	})
}

// do tries something until it succeeds, or for too long.
func (c *natsCluster) do(try func(context.Context, jetstream.JetStream) error) error {
	nc, err := nats.Connect(c.url(), nats.Timeout(connectTimeout))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		once, stop := context.WithTimeout(ctx, 2*time.Second)
		err := try(once, js)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the NATS cluster is not ready: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// url has the addresses of all nodes.
func (c *natsCluster) url() string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, n.addr)
	}
	return strings.Join(all, ",")
}

// leader is the address of the node that leads a stream.
func (c *natsCluster) leader(stream string) (addr string, err error) {
	err = c.do(func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		cluster := s.CachedInfo().Cluster
		if cluster == nil || cluster.Leader == "" {
			return errors.New("the stream has no leader")
		}
		i := slices.IndexFunc(c.nodes, func(p *process) bool { return p.name == string(roleNode)+" of "+cluster.Leader })
		if i < 0 {
			return fmt.Errorf("the leader is %q", cluster.Leader)
		}
		addr = c.nodes[i].addr
		return nil
	})
	return addr, err
}

// usage is what all nodes have used; nothing, if one of them has ended.
func (c *natsCluster) usage() (cpu time.Duration, m memory) {
	for _, n := range c.nodes {
		r, err := n.ask(order{Do: doMark})
		if err != nil {
			return 0, memory{}
		}
		cpu += r.CPU
		m.Heap += r.Memory.Heap
		m.Resident += r.Memory.Resident
	}
	return cpu, m
}

// remove ends the nodes and removes what they have stored.
func (c *natsCluster) remove() {
	for _, n := range c.nodes {
		n.kill()
	}
	c.release()
	_ = os.RemoveAll(c.folder) // the system cleans up too
}
