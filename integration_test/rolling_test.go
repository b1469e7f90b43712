package integration_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultload"
)

// All replicas are started again under load, one after the other, and then all NATS servers. Clients whose deadlines are
// longer than 20 s, and consumers that come back within their grace, see no error at all.
func TestP23RollingRestart(t *testing.T) {
	t.Parallel()
	s := startService(t, false)
	for range scaled(t, 1) {
		seen := &sightings{}
		n := s.beginWith(faultload.Config{Deadline: 21 * time.Second, Failed: seen.add})
		for _, r := range s.replicas {
			n.pass(time.Second)
			f := n.strike("a replica restarted", func() {
				r.terminate()
				r.start()
			})
			f.backForAll()
		}
		for i := range s.nats.Nodes() {
			n.pass(time.Second)
			f := n.strike("a NATS server restarted", func() {
				s.nats.Stop(i)
				s.nats.Restart(i)
				s.nats.AwaitCurrent(logStream)
			})
			f.backForAll()
		}
		n.finish(anyOrder())
		seen.check(t)
	}
	s.stop()
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
