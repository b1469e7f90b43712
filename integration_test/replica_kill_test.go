package integration_test

import (
	"testing"
	"time"
)

// The replica that serves is killed under load, and comes back when another one serves; then one that relays. Nothing that
// was confirmed is lost or done twice, and all who wait get their answers.
func TestP01KilledReplicas(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	s.shifts(strict(), func(n *shift) {
		n.kill("the owner killed", s.awaitOwner())
		n.pass(time.Second)
		n.kill("a relay killed", s.relay())
	})
	s.stop()
}

// kill kills a replica, and starts it again after a while.
func (n *shift) kill(what string, victim int) {
	n.test.Helper()
	f := n.strike(what, n.replicas[victim].kill)
	f.backForAll()
	n.pass(2 * time.Second)
	f.over(n.replicas[victim].start)
}
