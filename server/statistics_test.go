package server_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/server"
)

// TestServerStatistics: memory with and without a limit, and a journal's figures as it tells them.
func TestServerStatistics(t *testing.T) {
	c := newClient(t)
	got := must[*queuepb.GetServerStatisticsResponse](t)(c.admin().GetServerStatistics(c.ctx, &queuepb.GetServerStatisticsRequest{}))
	if got.Journal != nil || got.MemoryLimitBytes != 0 || got.Time == nil {
		t.Errorf("without a journal: %v", got)
	}
	c = newClient(t, testbed.WithBroker(func(c *broker.Config) { c.MemoryLimit = 1 << 30 }), testbed.WithServer(func(c *server.Config) {
		c.Journal = func(context.Context) server.JournalFigures {
			return server.JournalFigures{
				Batches: 3, Bytes: 100, Written: 300, Sizes: []uint64{0, 1, 2, 0, 0}, SizeSum: 100, Latencies: []uint64{3}, LatencySum: 7,
				Store: 1, Free: 2, WantsFree: 3, NearlyFull: true,
				Stream: "s", SentMessages: 4, StreamMessages: 5, StreamLimit: 6,
			}
		}
	}))
	before := must[*queuepb.GetServerStatisticsResponse](t)(c.admin().GetServerStatistics(c.ctx, &queuepb.GetServerStatisticsRequest{}))
	want := &queuepb.JournalStatistics{
		Batches: 3, BatchBytes: 100, WrittenBytes: 300, Sizes: &queuepb.Histogram{Counts: []uint64{0, 1, 2}, Sum: 100},
		Latencies: &queuepb.Histogram{Counts: []uint64{3}, Sum: 7}, StoreBytes: 1, FreeBytes: 2, WantedFreeBytes: 3, NearlyFull: true,
		Stream: "s", SentMessages: 4, StreamMessages: 5, StreamLimitBytes: 6,
	}
	if diff := cmp.Diff(want, before.Journal, protocmp.Transform()); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	must[*queuepb.EnqueueResponse](t)(c.Enqueue(c.ctx, &queuepb.EnqueueRequest{Queue: "q", Message: &queuepb.Message{Payload: make([]byte, 100_000)}}))
	after := must[*queuepb.GetServerStatisticsResponse](t)(c.admin().GetServerStatistics(c.ctx, &queuepb.GetServerStatisticsRequest{}))
	if after.MemoryLimitBytes != 1<<30 || after.MemoryBytes < before.MemoryBytes+100_000 {
		t.Errorf("memory went from %d to %d of %d bytes, want 100,000 more", before.MemoryBytes, after.MemoryBytes, after.MemoryLimitBytes)
	}
}
