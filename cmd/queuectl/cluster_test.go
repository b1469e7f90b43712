package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// TestClusterText: a service as a person sees it: replicas, servers of NATS, shards; and what the replica that is asked
// knows without NATS.
func TestClusterText(t *testing.T) {
	since := func(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
	res := &queuepb.GetClusterResponse{
		Node: "r2", Health: queuepb.ClusterHealth_CLUSTER_HEALTH_DEGRADED, Problems: []string{"r3 is gone", "n2 too"}, BootEpoch: "0000002a",
		Replicas: []*queuepb.ClusterReplica{
			{Node: "r1", Address: "h1:7420", Version: "1", State: queuepb.ReplicaState_REPLICA_STATE_SERVING, Alive: true,
				InState: since(2*time.Hour + 400*time.Millisecond), Silent: since(200 * time.Millisecond)},
			{Node: "r2", Address: "h2:7420", Version: "1", State: queuepb.ReplicaState_REPLICA_STATE_RELAYING, Alive: true, Asked: true,
				InState: since(time.Minute)},
			{Node: "r3", Address: "h3:7420", Version: "1", State: queuepb.ReplicaState_REPLICA_STATE_RELAYING,
				InState: since(time.Hour), Silent: since(65 * time.Second)},
		},
		Shards: []*queuepb.ClusterShard{{Number: 0, Owner: "r1", Epoch: 9, Messages: 12, NeededBatches: 3}, {Number: 1}},
		Stream: &queuepb.ClusterStream{
			Server: "n1", ServerVersion: "2.12.0", Name: "REPLYQ_main", Answers: true, AnswerTime: since(1500 * time.Microsecond),
			LastKept: since(5 * time.Second), Bytes: 3 << 20, Messages: 12, Copies: 3,
			Servers: []*queuepb.ClusterStreamServer{{Name: "n1", Leader: true, Current: true}, {Name: "n2", Offline: true}, {Name: "n3", Lag: 7}},
		},
	}
	want := `health   degraded, says r2
journal  0000002a
nats     connected to n1, version 2.12.0
stream   REPLYQ_main: 3.0 MiB in 12 messages, answers in 1.5ms, last kept something 5s ago

REPLICA  STATE     FOR     HEARD OF  ADDRESS  VERSION
r1       serving   2h0m0s  now       h1:7420  1
r2 *     relaying  1m0s    now       h2:7420  1
r3       silent    -       1m5s ago  h3:7420  1

NATS SERVER  STATE    BEHIND
n1           leader   0
n2           offline  0
n3           behind   7

SHARD  OWNER  EPOCH  MESSAGES  NEEDED
0      r1     9      12        3
1      -      0      0         0
`
	r := newClusterRecord(res)
	if diff := cmp.Diff(want, r.text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	const problems = "the cluster is degraded:\n  - r3 is gone\n  - n2 too"
	if err := r.err(); err == nil || err.Error() != problems {
		t.Errorf("error %v, want %q", err, problems)
	}
	res.Health, res.Problems, res.Shards = queuepb.ClusterHealth_CLUSTER_HEALTH_OK, nil, nil
	res.Replicas, res.Stream = res.Replicas[1:2], &queuepb.ClusterStream{Name: "REPLYQ_main", LastKept: since(9 * time.Second)}
	want = `health   ok, says r2
journal  0000002a
nats     no connection
stream   REPLYQ_main: no answer, last kept something 9s ago

REPLICA  STATE     FOR   HEARD OF  ADDRESS  VERSION
r2 *     relaying  1m0s  now       h2:7420  1
`
	r = newClusterRecord(res)
	if diff := cmp.Diff(want, r.text()); diff != "" || r.err() != nil {
		t.Errorf("error %v; -want +got:\n%s", r.err(), diff)
	}
}
