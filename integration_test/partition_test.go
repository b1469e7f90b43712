package integration_test

import (
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// The network between parts of a service is cut under load, and heals.
func TestP01Partitions(t *testing.T) {
	t.Parallel()
	s := startService(t, true)
	for _, cycle := range []func(*shift){(*shift).ownerWithoutNATS, (*shift).ownerWithoutPeers, (*shift).leaderWithoutOthers} {
		s.shifts(anyOrder(), cycle)
	}
	s.stop()
}

// lasting is how long a partition lasts at least.
const lasting = 5 * time.Second

// ownerWithoutNATS leaves the owner its clients: it must not confirm anything to them, and another one has to serve.
func (n *shift) ownerWithoutNATS() {
	owner := n.awaitOwner()
	f := n.strike("the owner cut off from NATS", func() {
		for _, p := range n.replicas[owner].toNATS {
			p.Swallow()
		}
	})
	f.back()
	n.awaitOwner(owner)
	n.last(lasting)
	f.over(func() {
		for _, p := range n.replicas[owner].toNATS {
			p.Heal()
		}
	})
}

// ownerWithoutPeers leaves the owner NATS and its own clients, and the others nobody to relay to.
func (n *shift) ownerWithoutPeers() {
	owner := n.awaitOwner()
	f := n.strike("the owner cut off from the other replicas", n.replicas[owner].peers.Swallow)
	f.back()
	n.last(lasting)
	for i, r := range n.replicas {
		if i != owner {
			r.awaitHealth(n.test, healthpb.HealthCheckResponse_NOT_SERVING)
		}
	}
	f.over(n.replicas[owner].peers.Heal)
}

// leaderWithoutOthers leaves a NATS server its clients, which are told nothing: they have to find out, and go to another one.
func (n *shift) leaderWithoutOthers() {
	leader := n.nats.Leader(logStream)
	f := n.strike("the leader of the logs cut off from the other NATS servers", func() { n.nats.Isolate(leader) })
	f.backForAll()
	n.awaitLeader(logStream, leader)
	n.last(lasting)
	f.over(n.nats.Heal)
	n.awaitNATS()
}

// last lets what is bad go on for that long, and up to as long again.
func (n *shift) last(atLeast time.Duration) {
	<-time.After(atLeast + time.Duration(n.random.Int64N(int64(atLeast))))
}
