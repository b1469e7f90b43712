package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
)

// JournalFigures are what a journal tells of itself since it was opened.
type JournalFigures struct {
	Batches, Bytes uint64 // that were kept
	Written        uint64 // bytes written to the disk, or sent to NATS, for them
	// Sizes (bytes) and Latencies (nanoseconds) count batches by powers of two: the i-th count has those below 2^i that are in
	// no earlier one.
	Sizes, Latencies       []uint64
	SizeSum, LatencySum    uint64
	Store, Free, WantsFree uint64 // bytes: of the journal, of its disk, and how many of those there shall be
	NearlyFull             bool
	// Stream is the name of the stream in NATS that the journal is in; empty if it is on a disk. SentMessages were sent
	// there, and StreamMessages are in it, which may have StreamLimit bytes, 0 if it has no limit.
	Stream                                    string
	SentMessages, StreamMessages, StreamLimit uint64
}

// GetServerStatistics implements the RPC.
func (s *adminService) GetServerStatistics(
	ctx context.Context, _ *queuepb.GetServerStatisticsRequest,
) (*queuepb.GetServerStatisticsResponse, error) {
	t := s.tenureOf(ctx)
	res := &queuepb.GetServerStatisticsResponse{
		Time:             timestamppb.New(t.now()),
		MemoryBytes:      uint64(max(t.broker.MemoryUsed(), 0)),
		MemoryLimitBytes: uint64(t.broker.MemoryLimit()),
	}
	if s.peers != nil {
		res.Node = s.peers.Node
	}
	if s.journal != nil {
		j := s.journal(ctx)
		res.Journal = &queuepb.JournalStatistics{
			Batches: j.Batches, BatchBytes: j.Bytes, WrittenBytes: j.Written,
			Sizes: histogram(j.Sizes, j.SizeSum), Latencies: histogram(j.Latencies, j.LatencySum),
			StoreBytes: j.Store, FreeBytes: j.Free, WantedFreeBytes: j.WantsFree, NearlyFull: j.NearlyFull,
			Stalled: t.broker.Stalled() != nil,
			Stream:  j.Stream, SentMessages: j.SentMessages, StreamMessages: j.StreamMessages, StreamLimitBytes: j.StreamLimit,
		}
	}
	return res, nil
}

// histogram leaves out the zeros at the end.
func histogram(counts []uint64, sum uint64) *queuepb.Histogram {
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	return &queuepb.Histogram{Counts: counts, Sum: sum}
}
