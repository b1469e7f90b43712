package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/replyq/replyq/journal/cluster"
)

// A Report tells how the service is, as one replica sees it.
type Report struct {
	Node     string // the replica that tells
	Health   Health
	Problems []string // what is wrong and what to do, the worst first
	Replicas []Member // by name
	Shards   []Shard  // none if they could not be read
	Stream   Stream
	Number   uint32 // the journal's
}

// Health is how the service is, in a word.
type Health uint8

// The healths.
const (
	Well        Health = iota // and one failure would not change that
	Degraded                  // it serves, but something is wrong
	Unavailable               // it does not serve, or the replica cannot tell
)

// String names a health.
func (h Health) String() string { return [...]string{"well", "degraded", "unavailable"}[h] }

// A Shard is one shard's log.
type Shard struct {
	cluster.Shard
	Messages uint64 // in the stream
}

// A Stream is what NATS and the replica tell of where everything is kept.
type Stream struct {
	cluster.State
	Server, Version string // that the replica is connected to; empty if it is not
	Name            string
	Copies          int           // that there shall be
	Answers         bool          // the State is from now
	Took            time.Duration // the answer
	Kept            time.Duration // since something was last kept for this replica
}

// A view is what the loop shows to others.
type view struct {
	state    state
	since    time.Time // when it was new
	claim    claim
	revision uint64 // of the claim
	differs  string // as in Replica
}

const (
	// reportTime is how long a report may take: what has not answered by then is left out.
	reportTime = 1800 * time.Millisecond
	// goneTime is how long a replica was not heard of that is not expected back.
	goneTime = 10 * time.Minute
)

// Report finds out how the service is. It also does while NATS is gone, with what is known then.
func (r *Replica) Report(ctx context.Context) *Report {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	store, v := r.cfg.Store, r.view.Load()
	out := &Report{Node: r.cfg.Node, Number: store.Number()}
	out.Stream.Server, out.Stream.Version = store.Connected()
	out.Stream.Name, out.Stream.Copies = store.Stream(), store.Copies()
	var stateErr, shardsErr error
	if out.Stream.Server != "" {
		var asked sync.WaitGroup
		asked.Go(func() { out.Replicas, _ = r.Members(ctx) }) // without an answer, those that are known
		asked.Go(func() { stateErr = out.Stream.ask(ctx, store) })
		asked.Go(func() { out.Shards, shardsErr = shards(ctx, store) })
		asked.Go(func() { v = r.newest(ctx, v) })
		asked.Wait()
	}
	if out.Replicas == nil {
		out.Replicas = r.known(v)
	}
	for i, n := range out.Stream.Shards {
		if i < len(out.Shards) {
			out.Shards[i].Messages = n
		}
	}
	out.Stream.Kept = r.election.silence()
	out.judge(v, stateErr, shardsErr)
	return out
}

func (s *Stream) ask(ctx context.Context, store *cluster.Store) (err error) {
	began := time.Now()
	s.State, err = store.State(ctx)
	s.Answers, s.Took = err == nil, time.Since(began)
	return err //nolint:wrapcheck // the caller says what it means
}

// newest is a view with the claim as it is now, if that can be read: another replica may have written it just now.
func (r *Replica) newest(ctx context.Context, v *view) *view {
	c, revision, err := r.election.register.read(ctx)
	if err != nil || revision <= v.revision {
		return v
	}
	next := *v
	next.claim, next.revision = c, revision
	return &next
}

// shards reads what all logs end with.
func shards(ctx context.Context, store *cluster.Store) ([]Shard, error) {
	all, errs := make([]Shard, store.Shards()), make([]error, store.Shards())
	var asked sync.WaitGroup
	for i := range all {
		asked.Go(func() { all[i].Shard, errs[i] = store.Shard(ctx, i) })
	}
	asked.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errs[slices.IndexFunc(errs, func(err error) bool { return err != nil })]
	}
	return all, nil
}

// known are the replicas that were heard of when NATS last told.
func (r *Replica) known(v *view) []Member {
	r.roster.mu.Lock()
	members, passed := slices.Clone(r.roster.members), time.Since(r.roster.at)
	r.roster.mu.Unlock()
	if members == nil {
		m := r.election.me
		m.This = true
		members = []Member{m}
	}
	for i := range members {
		m := &members[i]
		m.Silent += passed
		m.For += passed
		m.Alive = m.This
		if m.This {
			m.State, m.For, m.Silent = string(v.state), time.Since(v.since), r.election.silence()
		}
	}
	return members
}

// A roster is the members as they were last read.
type roster struct {
	mu      sync.Mutex
	members []Member // nil: never
	at      time.Time
}

func (o *roster) keep(members []Member) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.members, o.at = slices.Clone(members), time.Now()
}

// judge finds what is wrong.
func (o *Report) judge(v *view, stateErr, shardsErr error) {
	if o.judgeStream(stateErr) { // else nothing is heard of others, whatever they do
		o.judgeOwner(v, shardsErr)
		o.judgeReplicas(v)
	}
}

func (o *Report) say(h Health, format string, args ...any) {
	problem := fmt.Sprintf(format, args...)
	if h > o.Health { // the worst first
		o.Health = h
		o.Problems = slices.Insert(o.Problems, 0, problem)
		return
	}
	o.Problems = append(o.Problems, problem)
}

// judgeStream reports whether NATS does its part.
func (o *Report) judgeStream(err error) bool {
	s := &o.Stream
	switch {
	case s.Server == "":
		o.say(Unavailable, "this replica has no connection to NATS and cannot tell how the service is: see whether the servers that "+
			"--nats-url names run and can be reached from here; meanwhile ask another replica")
		return false
	case errors.Is(err, context.DeadlineExceeded):
		o.say(Unavailable, "JetStream does not answer: most of the %d servers that keep the stream %s have to run", s.Copies, s.Name)
		return false
	case err != nil:
		o.say(Unavailable, "the stream %s cannot be used: most of its %d servers have to run, and this replica needs the right to use it (%v)",
			s.Name, s.Copies, err)
		return false
	}
	o.judgeServers()
	if !slices.ContainsFunc(s.Servers, func(n cluster.Server) bool { return n.Leader }) {
		o.say(Unavailable, "the stream %s has no leader: most of its %d servers have to run; if they do, they agree on one within seconds",
			s.Name, s.Copies)
		return false
	}
	if s.Kept > silentTime {
		o.say(Unavailable, "NATS has kept nothing of what this replica has sent for %v: most of its servers have to run, with room on "+
			"their disks; if they do, they agree on a leader within seconds", rounded(s.Kept))
		return false
	}
	return true
}

func (o *Report) judgeServers() {
	s := &o.Stream
	for _, n := range s.Servers {
		switch {
		case n.Offline:
			o.say(Degraded, "the NATS server %s is offline: start it again, before another one goes", n.Name)
		case !n.Current && n.Lag > 0:
			o.say(Degraded, "the NATS server %s is behind by %d operations: stop no other one before it has caught up", n.Name, n.Lag)
		case !n.Current:
			o.say(Degraded, "the NATS server %s has not caught up: stop no other one before it has", n.Name)
		}
	}
	if len(s.Servers) < s.Copies {
		o.say(Degraded, "the stream %s has %d servers of %d: start the others", s.Name, len(s.Servers), s.Copies)
	}
}

func (o *Report) judgeOwner(v *view, shardsErr error) {
	owner := v.claim.Node
	switch {
	case owner == "":
		o.say(Unavailable, "no replica serves: one takes over within seconds, unless all are going down or have failed; their logs say why")
		return
	case v.claim.State == restoring:
		o.say(Unavailable, "the replica %s has taken over and reads the journal: calls wait until it has", owner)
		return
	case v.claim.State == leaving:
		o.say(Unavailable, "the replica %s hands over to another one: calls wait for that", owner)
		return
	}
	if i := slices.IndexFunc(o.Replicas, func(m Member) bool { return m.Node == owner }); i >= 0 && !o.Replicas[i].Alive {
		o.say(Unavailable, "the replica %s served and has not been heard of for %v: another one takes over within seconds",
			owner, rounded(o.Replicas[i].Silent))
		return
	}
	if shardsErr != nil {
		o.say(Unavailable, "the shards' logs could not be read: %v", shardsErr)
	}
	for i, s := range o.Shards {
		if s.Node != owner {
			o.say(Unavailable, "shard %d belongs to %q although %s serves: if that stays so for seconds, look into their logs", i, s.Node, owner)
			return
		}
	}
}

func (o *Report) judgeReplicas(v *view) {
	ready := 0
	for _, m := range o.Replicas {
		if m.Alive && m.State != string(leaving) {
			ready++
		}
		if !m.Alive && m.Node != v.claim.Node {
			o.say(Degraded, "the replica %s has not been heard of for %v: start it again, or let it be; it is forgotten after %v",
				m.Node, rounded(m.Silent), goneTime)
		}
	}
	if ready < 2 {
		o.say(Degraded, "no other replica is there to take over: start one")
	}
	if v.differs != "" {
		o.say(Degraded, "handles of this replica and of %s are refused by the other: give all replicas the same --key-file and --cluster-name", v.differs)
	}
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
