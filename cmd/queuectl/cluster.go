package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/replyq/replyq/api/queuepb"
)

type clusterCmd struct{}

// Help is shown by cluster --help.
func (clusterCmd) Help() string {
	return "The replica that --server names tells it, also while none serves; others may see it otherwise. The exit code is 0 if " +
		"all is well, and 1 if something is wrong: standard error says what, and what to do. 4: the server is not one of several " +
		"replicas.\n\n" + jsonHelp("cluster")
}

// Run shows the cluster.
func (clusterCmd) Run(a *app) error {
	if err := a.dial(); err != nil {
		return err
	}
	res, err := ask(a, a.client.Cluster)
	if err != nil {
		return err
	}
	r := newClusterRecord(res)
	if a.JSON {
		a.emit(r)
	} else {
		a.print(r.text())
	}
	return r.err()
}

// unwellError says that the cluster is not as it should be.
type unwellError struct {
	health   string
	problems []string
}

func (e *unwellError) Error() string {
	return "the cluster is " + e.health + ":\n  - " + strings.Join(e.problems, "\n  - ")
}

type clusterRecord struct {
	Type      string           `json:"type"`
	Time      time.Time        `json:"time"`
	Node      string           `json:"node"`
	Health    string           `json:"health"`
	Problems  []string         `json:"problems"`
	Replicas  []clusterReplica `json:"replicas"`
	Shards    []clusterShard   `json:"shards"`
	NATS      clusterStream    `json:"nats"`
	BootEpoch string           `json:"boot_epoch"`
}

type clusterReplica struct {
	Node    string  `json:"node"`
	Address string  `json:"address"`
	Version string  `json:"version"`
	State   string  `json:"state"`
	InState float64 `json:"in_state_seconds"`
	Silent  float64 `json:"silent_seconds"`
	Alive   bool    `json:"alive"`
	Asked   bool    `json:"asked"`
}

type clusterShard struct {
	Number   uint32 `json:"number"`
	Owner    string `json:"owner"`
	Epoch    uint64 `json:"epoch"`
	Messages uint64 `json:"messages"`
	Needed   uint64 `json:"needed_batches"`
}

type clusterStream struct {
	Server        string          `json:"server"`
	ServerVersion string          `json:"server_version"`
	Stream        string          `json:"stream"`
	Answers       bool            `json:"answers"`
	AnswerTime    float64         `json:"answer_time_seconds"`
	LastKept      float64         `json:"last_kept_seconds"`
	Bytes         uint64          `json:"bytes"`
	Messages      uint64          `json:"messages"`
	Copies        uint32          `json:"copies"`
	Servers       []clusterServer `json:"servers"`
}

type clusterServer struct {
	Name    string `json:"name"`
	Leader  bool   `json:"leader"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline"`
	Lag     uint64 `json:"lag"`
}

func newClusterRecord(p *queuepb.GetClusterResponse) *clusterRecord {
	s := p.GetStream()
	r := &clusterRecord{
		Type: "cluster", Time: p.GetTime().AsTime(), Node: p.GetNode(), BootEpoch: p.GetBootEpoch(),
		Health:   strings.ToLower(strings.TrimPrefix(p.GetHealth().String(), "CLUSTER_HEALTH_")),
		Problems: append([]string{}, p.GetProblems()...), Replicas: []clusterReplica{}, Shards: []clusterShard{},
		NATS: clusterStream{
			Server: s.GetServer(), ServerVersion: s.GetServerVersion(), Stream: s.GetName(), Answers: s.GetAnswers(),
			AnswerTime: s.GetAnswerTime().AsDuration().Seconds(), LastKept: s.GetLastKept().AsDuration().Seconds(),
			Bytes: s.GetBytes(), Messages: s.GetMessages(), Copies: s.GetCopies(), Servers: []clusterServer{},
		},
	}
	for _, m := range p.GetReplicas() {
		r.Replicas = append(r.Replicas, clusterReplica{
			Node: m.GetNode(), Address: m.GetAddress(), Version: m.GetVersion(), Silent: m.GetSilent().AsDuration().Seconds(),
			State:   strings.ToLower(strings.TrimPrefix(m.GetState().String(), "REPLICA_STATE_")),
			InState: m.GetInState().AsDuration().Seconds(), Alive: m.GetAlive(), Asked: m.GetAsked(),
		})
	}
	for _, h := range p.GetShards() {
		r.Shards = append(r.Shards, clusterShard{h.GetNumber(), h.GetOwner(), h.GetEpoch(), h.GetMessages(), h.GetNeededBatches()})
	}
	for _, n := range s.GetServers() {
		r.NATS.Servers = append(r.NATS.Servers, clusterServer{n.GetName(), n.GetLeader(), n.GetCurrent(), n.GetOffline(), n.GetLag()})
	}
	return r
}

func (r *clusterRecord) err() error {
	if r.Health == "ok" {
		return nil
	}
	return &unwellError{r.Health, r.Problems}
}

func (r *clusterRecord) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "health\t%s, says %s\n", r.Health, r.Node)
	fmt.Fprintf(w, "journal\t%s\n", r.BootEpoch)
	n := &r.NATS
	connected := "no connection"
	if n.Server != "" {
		connected = fmt.Sprintf("connected to %s, version %s", n.Server, n.ServerVersion)
	}
	fmt.Fprintf(w, "nats\t%s\n", connected)
	answer := "no answer"
	if n.Answers {
		answer = fmt.Sprintf("%s in %d messages, answers in %s", size(n.Bytes), n.Messages, took(n.AnswerTime))
	}
	answer += ", last kept something " + age(n.LastKept)
	fmt.Fprintf(w, "stream\t%s: %s\n", n.Stream, answer)
	_ = w.Flush() // a strings.Builder takes everything
	r.table(&b, []string{"REPLICA", "STATE", "FOR", "HEARD OF", "ADDRESS", "VERSION"}, len(r.Replicas), func(i int) []string {
		m := &r.Replicas[i]
		name := m.Node
		if m.Asked {
			name += " *"
		}
		state, since := m.State, inSeconds(m.InState).String()
		if !m.Alive {
			state, since = "silent", "-" // what it does is not known
		}
		return []string{name, state, since, age(m.Silent), m.Address, m.Version}
	})
	r.table(&b, []string{"NATS SERVER", "STATE", "BEHIND"}, len(n.Servers), func(i int) []string {
		s := &n.Servers[i]
		return []string{s.Name, s.state(), fmt.Sprint(s.Lag)}
	})
	r.table(&b, []string{"SHARD", "OWNER", "EPOCH", "MESSAGES", "NEEDED"}, len(r.Shards), func(i int) []string {
		s := &r.Shards[i]
		return []string{fmt.Sprint(s.Number), cmp.Or(s.Owner, "-"), fmt.Sprint(s.Epoch), fmt.Sprint(s.Messages), fmt.Sprint(s.Needed)}
	})
	return b.String()
}

func (s *clusterServer) state() string {
	switch {
	case s.Leader:
		return "leader"
	case s.Offline:
		return "offline"
	case s.Current:
		return "current"
	}
	return "behind"
}

// table writes a table with some rows, unless there are none.
func (*clusterRecord) table(b *strings.Builder, head []string, rows int, row func(i int) []string) {
	if rows == 0 {
		return
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for i := range rows {
		fmt.Fprintln(w, strings.Join(row(i), "\t"))
	}
	_ = w.Flush() // as in text
}

// age tells how long ago something was.
func age(seconds float64) string {
	if seconds < 1 {
		return "now"
	}
	return inSeconds(seconds).String() + " ago"
}

func inSeconds(seconds float64) time.Duration { return time.Duration(seconds * 1e9).Round(time.Second) }
