package integration_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultload"
)

// All replicas are started again under load, one after the other, and then all NATS servers. Clients whose deadlines are
// longer than 20 s see no error at all, whether or not their consumers have a grace.
func TestP23RollingRestart(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	for range scaled(t, 1) {
		s.rollingRestart(shiftGrace, (*shift).restartReplicas, (*shift).restartNATS)
		s.rollingRestart(0, (*shift).restartReplicas)
	}
	s.stop()
}

// fromVariable names a queue-server of an earlier version.
const fromVariable = "REPLYQ_FROM"

// A service of an earlier version is upgraded under load, replica by replica, after some of what it keeps was written by either
// version; NATS and what it has stay. Clients see no error.
func TestP23Upgrade(t *testing.T) {
	t.Parallel()
	earlier := os.Getenv(fromVariable)
	if earlier == "" {
		t.Skip("no earlier version to begin with: make upgrade FROM=COMMIT")
	}
	for range scaled(t, 1) {
		s := startServiceOf(t, earlier, false)
		s.rollingRestart(shiftGrace, (*shift).restartReplicas)
		for i, r := range s.replicas {
			r.binary = queueServer
			s.rollingRestart(shiftGrace, func(n *shift) { n.restart(n.replicas[i]) })
		}
		s.rollingRestart(0, (*shift).restartReplicas)
		s.stop()
	}
}

func (s *service) rollingRestart(grace time.Duration, restarts ...func(*shift)) {
	s.t.Helper()
	seen := &sightings{}
	n := s.beginWith(faultload.Config{Grace: grace, Deadline: 21 * time.Second, Failed: seen.add})
	for _, restart := range restarts {
		restart(n)
	}
	n.finish(anyOrder())
	seen.check(s.t)
}

func (n *shift) restartReplicas() {
	for _, r := range n.replicas {
		n.restart(r)
	}
}

func (n *shift) restart(r *replica) {
	n.pass(time.Second)
	f := n.strike("a replica restarted", func() {
		r.terminate()
		r.start()
	})
	f.backForAll()
}

func (n *shift) restartNATS() {
	for i := range n.nats.Nodes() {
		n.pass(time.Second)
		f := n.strike("a NATS server restarted", func() {
			n.nats.Stop(i)
			n.nats.Restart(i)
			n.awaitNATS()
		})
		f.backForAll()
	}
}

// sightings are errors that clients have seen.
type sightings struct {
	mu    sync.Mutex
	count int
	first []string
}

func (s *sightings) add(operation string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count++; s.count <= 10 {
		s.first = append(s.first, fmt.Sprintf("%s: %v", operation, err))
	}
}

func (s *sightings) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count > 0 {
		t.Errorf("clients have seen %d errors:\n\t%s", s.count, strings.Join(s.first, "\n\t"))
	}
}
