package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// A service of three replicas of queue-server, each in a process of its own, over three NATS nodes that sync.

// A service is a running one.
type service struct {
	nodes    *natsCluster
	replicas []*queueServer
	folder   string // with the binary and the keys
}

// clusterServer is the role; its address is the owner's.
func clusterServer(*job) (*part, error) { return servicePart((*service).owner) }

// relayServer is the role; its address is that of a replica that owns nothing.
func relayServer(*job) (*part, error) {
	return servicePart(func(s *service) (*queueServer, error) {
		owner, err := s.owner()
		if err != nil {
			return nil, err
		}
		return s.others(owner)[0], nil
	})
}

func servicePart(chosen func(*service) (*queueServer, error)) (*part, error) {
	s, err := startService()
	if err != nil {
		return nil, err
	}
	q, err := chosen(s)
	if err != nil {
		s.remove()
		return nil, err
	}
	nodes := func() time.Duration { cpu, _ := s.nodes.usage(); return cpu }
	return &part{addr: q.addr, usage: s.usage, nodes: nodes, close: s.remove}, nil
}

// startService returns when it serves and all replicas are there.
func startService() (s *service, err error) {
	first, err := newQueueServer()
	if err != nil {
		return nil, err
	}
	s = &service{folder: first.folder}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	key, err := exec.Command(first.binary(), "new-key").Output() //nolint:gosec // it is ours
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	keys := filepath.Join(s.folder, "keys")
	if err := os.WriteFile(keys, key, 0o600); err != nil {
		return nil, err
	}
	if s.nodes, err = startNATSCluster(); err != nil {
		return nil, err
	}
	for i := range clusterNodes {
		q := &queueServer{folder: s.folder, flags: []string{
			"--nats-url", s.nodes.url(), "--node", "r" + strconv.Itoa(i), "--key-file", keys}}
		if err := q.start(); err != nil {
			return nil, err
		}
		s.replicas = append(s.replicas, q)
	}
	return s, s.await()
}

// await waits until all replicas are there, and one of them serves, as each of them sees it.
func (s *service) await() error {
	for _, q := range s.replicas {
		if _, err := s.report(q); err != nil {
			return err
		}
	}
	return nil
}

// report asks a replica how the service is, until it is well.
func (s *service) report(q *queueServer) (*queuepb.GetClusterResponse, error) {
	c, err := client.New(q.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // it has its answer
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		r, err := c.Cluster(ctx)
		if err == nil && r.GetHealth() == queuepb.ClusterHealth_CLUSTER_HEALTH_OK && whole(r) {
			return r, nil
		}
		if err == nil {
			err = fmt.Errorf("%v: %q", r.GetHealth(), r.GetProblems())
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the service is not ready: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// whole reports whether as many replicas as there should be are alive, one of which serves.
func whole(r *queuepb.GetClusterResponse) bool {
	alive, serving := 0, 0
	for _, m := range r.GetReplicas() {
		if m.GetAlive() {
			alive++
		}
		if m.GetAlive() && m.GetState() == queuepb.ReplicaState_REPLICA_STATE_SERVING {
			serving++
		}
	}
	return alive == clusterNodes && serving == 1
}

// owner is the replica that serves.
func (s *service) owner() (*queueServer, error) {
	r, err := s.report(s.replicas[0])
	if err != nil {
		return nil, err
	}
	for _, m := range r.GetReplicas() {
		for _, q := range s.replicas {
			if m.GetState() == queuepb.ReplicaState_REPLICA_STATE_SERVING && m.GetAddress() == q.addr {
				return q, nil
			}
		}
	}
	return nil, errors.New("nobody serves") // unreachable
}

// others are the replicas that own nothing.
func (s *service) others(owner *queueServer) []*queueServer {
	return slices.DeleteFunc(slices.Clone(s.replicas), func(q *queueServer) bool { return q == owner })
}

func (s *service) usage() (time.Duration, memory) {
	cpu, m := s.nodes.usage()
	for _, q := range s.replicas {
		c, r := groupUsage(q.cmd.Process.Pid)
		cpu += c
		m.Resident += r.Resident
	}
	return cpu, m
}

// remove ends all of it and removes its files.
func (s *service) remove() {
	for _, q := range s.replicas {
		if q.runs() {
			q.kill()
		}
	}
	if s.nodes != nil {
		s.nodes.remove()
	}
	_ = os.RemoveAll(s.folder) // the system cleans up too
}
