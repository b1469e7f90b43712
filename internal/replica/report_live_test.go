package replica_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/internal/replica"
)

// A sight is what a report says, without what differs each time.
type sight struct {
	Health   string
	Problems int
	Replicas []string // "name state", or "name silent"
	Owners   []string // of the shards
	Servers  []string // of NATS: leader, current, behind, offline, sorted
}

func sightOf(r *replica.Report) sight {
	s := sight{Health: r.Health.String(), Problems: len(r.Problems)}
	for _, m := range r.Replicas {
		if !m.Alive {
			m.State = "silent"
		}
		s.Replicas = append(s.Replicas, m.Node+" "+m.State)
	}
	for _, shard := range r.Shards {
		s.Owners = append(s.Owners, shard.Node)
	}
	for _, n := range r.Stream.Servers {
		switch {
		case n.Leader:
			s.Servers = append(s.Servers, "leader")
		case n.Offline:
			s.Servers = append(s.Servers, "offline")
		case n.Current && n.Lag == 0:
			s.Servers = append(s.Servers, "current")
		default:
			s.Servers = append(s.Servers, "behind")
		}
	}
	slices.Sort(s.Servers)
	return s
}

// reports waits until a replica reports what is wanted.
func (n *node) reports(t *testing.T, what string, want sight) *replica.Report {
	t.Helper()
	limit, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for {
		r := n.Report(t.Context())
		diff := cmp.Diff(want, sightOf(r))
		if diff == "" {
			return r
		}
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("%s: %s does not report within a minute what is wanted (-want +got):\n%s%s", what, r.Node, diff, strings.Join(r.Problems, "\n"))
		}
	}
}

// TestReport: what each replica tells of real servers of NATS, of who owns the shards, and of the others: when all is well,
// after a hand-over, when the owner is lost, and when a server of NATS is.
func TestReport(t *testing.T) {
	t.Parallel()
	nats := natstest.Start(t, natstest.Options{Nodes: 3})
	keys := newKeys(t, handles.GenerateKeyLine(0, "mint", time.Now()))
	a := mustJoin(t, nats.URL(), "a", keys)
	a.until(t, "a serves", func() bool { return a.owns() != nil })
	b, c := mustJoin(t, nats.URL(), "b", keys), mustJoin(t, nats.URL(), "c", keys)
	enqueue(t, a.owns(), "one")
	three := []string{"current", "current", "leader"}
	var first *replica.Report
	for _, n := range []*node{a, b, c} {
		first = n.reports(t, "a serves", sight{"well", 0, []string{"a serving", "b relaying", "c relaying"}, []string{"a", "a"}, three})
		if s := first.Stream; !s.Answers || s.Server == "" || s.Copies != 3 || s.Bytes == 0 ||
			s.Messages != first.Shards[0].Messages+first.Shards[1].Messages {
			t.Errorf("%s tells of the stream %+v, with shards %+v", first.Node, s, first.Shards)
		}
	}

	a.Leave(t.Context())
	owner, other, left := b, c, []string{"a leaving", "b serving", "c relaying"}
	for b.owns() == nil && c.owns() == nil {
		select {
		case <-b.changed:
		case <-c.changed:
		}
	}
	if c.owns() != nil {
		owner, other, left = c, b, []string{"a leaving", "b relaying", "c serving"}
	}
	for _, n := range []*node{a, b, c} {
		r := n.reports(t, "a has left", sight{"well", 0, left, []string{owner.name, owner.name}, three})
		for i, s := range r.Shards {
			if s.Epoch <= first.Shards[i].Epoch || s.Messages == 0 {
				t.Errorf("%s tells of shard %d %+v, which was %+v", r.Node, i, s, first.Shards[i])
			}
		}
		for _, m := range r.Replicas {
			if m.For < m.Silent || m.For == 0 {
				t.Errorf("%s tells that %s does the same for %v, silent for %v", r.Node, m.Node, m.For, m.Silent)
			}
		}
	}

	a.close()
	owner.store.Conn().Close() // it is cut off
	alone := []string{"b serving", "c silent"}
	if other == c {
		alone = []string{"b silent", "c serving"}
	}
	owners := []string{other.name, other.name}
	other.reports(t, "the owner is lost", sight{"degraded", 2, alone, owners, three}) // and there is no further one
	if r := owner.Report(t.Context()); r.Health != replica.Unavailable || len(r.Shards) != 0 || memberOf(r, other).Alive || !memberOf(r, owner).Alive {
		t.Errorf("who is cut off tells %+v", r)
	}

	follower := (nats.Leader("REPLYQ_main") + 1) % nats.Nodes()
	nats.Kill(follower)
	r := other.reports(t, "a server of NATS is lost", sight{"degraded", 3, alone, owners, []string{"current", "leader", "offline"}})
	if name := nats.Node(follower).Name(); !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, name+" is offline") }) {
		t.Errorf("the problems are %q, want that %s is offline", r.Problems, name)
	}
	nats.Restart(follower)
	other.reports(t, "it is back", sight{"degraded", 2, alone, owners, three})
}

func memberOf(r *replica.Report, n *node) replica.Member {
	i := slices.IndexFunc(r.Replicas, func(m replica.Member) bool { return m.Node == n.name })
	if i < 0 {
		return replica.Member{}
	}
	return r.Replicas[i]
}
