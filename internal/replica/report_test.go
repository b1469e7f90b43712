package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/journal/cluster"
)

// TestJudge: what is wrong, one thing at a time, and the words for it.
func TestJudge(t *testing.T) {
	type seen struct {
		*Report
		view
		stateErr, shardsErr error
	}
	for name, test := range map[string]struct {
		change func(s *seen)
		health Health
		words  []string // of the problems, in order
	}{
		"nothing":  {func(*seen) {}, Well, nil},
		"handover": {func(s *seen) { s.claim.State = leaving }, Unavailable, []string{"r1 hands over"}},
		"restore":  {func(s *seen) { s.claim.State = restoring }, Unavailable, []string{"r1 has taken over"}},
		"nobody":   {func(s *seen) { s.claim = claim{} }, Unavailable, []string{"no replica serves"}},
		"owner is silent": {func(s *seen) { s.Replicas[0].Alive, s.Replicas[0].Silent = false, 4*time.Second }, Unavailable,
			[]string{"r1 served and has not been heard of for 4s", "start one"}},
		"other is silent": {func(s *seen) { s.Replicas[1].Alive, s.Replicas[1].Silent = false, time.Minute }, Degraded,
			[]string{"r2 has not been heard of for 1m0s", "start one"}},
		"other leaves":     {func(s *seen) { s.Replicas[1].State = "leaving" }, Degraded, []string{"no other replica"}},
		"alone":            {func(s *seen) { s.Replicas = s.Replicas[:1] }, Degraded, []string{"no other replica"}},
		"shard of another": {func(s *seen) { s.Shards[1].Node = "r2" }, Unavailable, []string{`shard 1 belongs to "r2" although r1 serves`}},
		"shard unreadable": {func(s *seen) { s.Shards, s.shardsErr = nil, errors.New("damaged") }, Unavailable, []string{"damaged"}},
		"other keys":       {func(s *seen) { s.differs = "r1" }, Degraded, []string{"--key-file"}},
		"no connection":    {func(s *seen) { s.Stream = Stream{Copies: 3} }, Unavailable, []string{"no connection to NATS"}},
		"no answer":        {func(s *seen) { s.stateErr, s.Replicas = context.DeadlineExceeded, nil }, Unavailable, []string{"JetStream does not answer"}},
		"no right":         {func(s *seen) { s.stateErr = errors.New("permission") }, Unavailable, []string{"permission"}},
		"nothing kept":     {func(s *seen) { s.Stream.Kept, s.Replicas = 4*time.Second, nil }, Unavailable, []string{"kept nothing"}},
		"no leader":        {func(s *seen) { s.Stream.Servers[0].Leader = false }, Unavailable, []string{"no leader"}},
		"server offline": {func(s *seen) { s.Stream.Servers[1] = cluster.Server{Name: "n2", Offline: true} }, Degraded,
			[]string{"n2 is offline"}},
		"server behind":      {func(s *seen) { s.Stream.Servers[1] = cluster.Server{Name: "n2", Lag: 7} }, Degraded, []string{"n2 is behind by 7"}},
		"server not current": {func(s *seen) { s.Stream.Servers[1].Current = false }, Degraded, []string{"n2 has not caught up"}},
		"server missing":     {func(s *seen) { s.Stream.Servers = s.Stream.Servers[:2] }, Degraded, []string{"2 servers of 3"}},
		"worst first": {func(s *seen) { s.Stream.Servers[1].Current, s.claim = false, claim{} }, Unavailable,
			[]string{"no replica serves", "n2 has not caught up"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &seen{&Report{
				Replicas: []Member{{Node: "r1", State: "serving", Alive: true}, {Node: "r2", State: "relaying", Alive: true}},
				Shards:   []Shard{{Shard: cluster.Shard{Fence: cluster.Fence{Node: "r1"}}}, {Shard: cluster.Shard{Fence: cluster.Fence{Node: "r1"}}}},
				Stream: Stream{Server: "n1", Name: "S", Copies: 3, Answers: true, State: cluster.State{Servers: []cluster.Server{
					{Name: "n1", Leader: true, Current: true}, {Name: "n2", Current: true}, {Name: "n3", Current: true},
				}}},
			}, view{state: relaying, claim: claim{Node: "r1", State: serving}}, nil, nil}
			test.change(s)
			s.judge(&s.view, s.stateErr, s.shardsErr)
			if s.Health != test.health {
				t.Errorf("health %v, want %v: %q", s.Health, test.health, s.Problems)
			}
			if len(s.Problems) != len(test.words) {
				t.Fatalf("problems %q, want %q", s.Problems, test.words)
			}
			for i, words := range test.words {
				if !strings.Contains(s.Problems[i], words) {
					t.Errorf("problem %q, want %q in it", s.Problems[i], words)
				}
			}
		})
	}
}

// TestNewestClaim: a report goes by the claim as it is when it is made, unless that cannot be read, or is old.
func TestNewestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cell{rng: rand.New(rand.NewPCG(1, 1)), claims: []claim{{Node: "r1", State: serving}, {Node: "r2", State: restoring}}}
		r := &Replica{election: newContender(c, 0, 1).election}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for name, test := range map[string]struct {
			ctx  context.Context
			has  view
			want string
		}{
			"behind":    {t.Context(), view{claim: claim{Node: "r1"}, revision: 1, differs: "r1"}, "r2"},
			"as it is":  {t.Context(), view{claim: claim{Node: "r2"}, revision: 2, differs: "r1"}, "r2"},
			"an old":    {t.Context(), view{claim: claim{Node: "r3"}, revision: 3, differs: "r1"}, "r3"},
			"no answer": {gone, view{claim: claim{Node: "r1"}, revision: 1, differs: "r1"}, "r1"},
		} {
			has := test.has
			if got := r.newest(test.ctx, &has); got.claim.Node != test.want || got.differs != "r1" || has.claim.Node != test.has.claim.Node {
				t.Errorf("%s: %+v from %+v, want the claim of %s", name, got, has, test.want)
			}
		}
	})
}
