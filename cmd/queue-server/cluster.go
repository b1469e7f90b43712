package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/replica"
	"github.com/replyq/replyq/journal/cluster"
	"github.com/replyq/replyq/server"
)

// clusterReport is what GetCluster answers.
func (p *process) clusterReport(ctx context.Context) *queuepb.GetClusterResponse {
	return clusterMessage(p.replica.Report(ctx), time.Now())
}

func clusterMessage(r *replica.Report, now time.Time) *queuepb.GetClusterResponse {
	out := &queuepb.GetClusterResponse{
		Time: timestamppb.New(now), Node: r.Node, Health: healths[r.Health], Problems: r.Problems, Stream: streamMessage(&r.Stream),
		BootEpoch: fmt.Sprintf("%08x", r.Number),
	}
	for i := range r.Replicas {
		m := &r.Replicas[i]
		out.Replicas = append(out.Replicas, &queuepb.ClusterReplica{
			Node: m.Node, Address: m.Address, Version: m.Version, State: replicaStates[m.State],
			Silent: durationpb.New(m.Silent), Alive: m.Alive, Asked: m.This, InState: durationpb.New(m.For),
		})
	}
	for i, s := range r.Shards {
		out.Shards = append(out.Shards, &queuepb.ClusterShard{
			Number: uint32(i), Owner: s.Node, Epoch: s.Epoch, Messages: s.Messages, NeededBatches: s.Needed, //nolint:gosec // few shards
		})
	}
	return out
}

// figuresTime is how long NATS has to tell of the stream. Without an answer the figures are told without it.
const figuresTime = time.Second

// journalFigures are what the server tells of the journal.
func (p *process) journalFigures(ctx context.Context) server.JournalFigures {
	return streamFigures(ctx, p.cluster)
}

func streamFigures(ctx context.Context, store *cluster.Store) server.JournalFigures {
	f := store.Figures()
	out := server.JournalFigures{
		Batches: f.Batches, Bytes: f.Bytes, Written: f.Sent, SentMessages: f.Messages, Stream: store.Stream(),
		Sizes: f.Size.Counts[:], SizeSum: f.Size.Sum, Latencies: f.Latency.Counts[:], LatencySum: f.Latency.Sum,
	}
	if connected, _ := store.Connected(); connected == "" {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, figuresTime)
	defer cancel()
	if space, err := store.Space(ctx); err == nil { // without an answer it is left out
		out.Store, out.StreamMessages, out.StreamLimit = space.Bytes, space.Messages, space.Limit
	}
	return out
}

func streamMessage(s *replica.Stream) *queuepb.ClusterStream {
	out := &queuepb.ClusterStream{
		Server: s.Server, ServerVersion: s.Version, Name: s.Name, Answers: s.Answers, LastKept: durationpb.New(s.Kept),
		Bytes: s.Bytes, Messages: s.Messages, Copies: uint32(s.Copies), //nolint:gosec // 1 to 5
	}
	if s.Answers {
		out.AnswerTime = durationpb.New(s.Took)
	}
	for _, n := range s.Servers {
		out.Servers = append(out.Servers, &queuepb.ClusterStreamServer{
			Name: n.Name, Leader: n.Leader, Current: n.Current, Offline: n.Offline, Lag: n.Lag,
		})
	}
	return out
}

var healths = [...]queuepb.ClusterHealth{ //nolint:gochecknoglobals // read only
	replica.Well:        queuepb.ClusterHealth_CLUSTER_HEALTH_OK,
	replica.Degraded:    queuepb.ClusterHealth_CLUSTER_HEALTH_DEGRADED,
	replica.Unavailable: queuepb.ClusterHealth_CLUSTER_HEALTH_UNAVAILABLE,
}

// replicaStates are by what replicas tell of themselves.
var replicaStates = map[string]queuepb.ReplicaState{ //nolint:gochecknoglobals // read only
	"relaying":  queuepb.ReplicaState_REPLICA_STATE_RELAYING,
	"restoring": queuepb.ReplicaState_REPLICA_STATE_RESTORING,
	"serving":   queuepb.ReplicaState_REPLICA_STATE_SERVING,
	"leaving":   queuepb.ReplicaState_REPLICA_STATE_LEAVING,
}
