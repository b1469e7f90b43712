package integration_test

import (
	"syscall"
	"testing"
	"time"
)

// The replica that serves is paused under load until another one serves, and then goes on, as if nothing had happened, with
// all that clients have sent it meanwhile: it confirms nothing, delivers nothing and refuses nothing by what it knew.
func TestP07PausedOwners(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	s.shifts(strict(), func(n *shift) {
		owner := s.awaitOwner()
		f := n.strike("the owner paused", func() { s.replicas[owner].signal(t, syscall.SIGSTOP) })
		s.awaitOwner(owner)
		f.back()
		n.last(2 * time.Second)
		f.over(func() { s.replicas[owner].signal(t, syscall.SIGCONT) })
	})
	s.stop()
}

// The NATS server that leads the logs is paused, until another one leads, and then goes on.
func TestP01PausedNATSLeaders(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	s.shifts(anyOrder(), func(n *shift) {
		leader := s.nats.Leader(logStream)
		f := n.strike("the leader of the logs paused", func() { s.nats.Pause(leader) })
		f.back()
		s.awaitLeader(logStream, leader)
		n.pass(2 * time.Second)
		f.over(func() { s.nats.Resume(leader) })
		s.awaitNATS()
	})
	s.stop()
}
