package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/api/queuepb"
)

// TestStatsText: the figures of a journal as a person sees them, when all is well and when not.
func TestStatsText(t *testing.T) {
	latencies := make([]uint64, 24)
	latencies[20], latencies[23] = 98, 2 // about a millisecond, and eight
	j := &queuepb.JournalStatistics{
		Batches: 100, BatchBytes: 100 * 700, WrittenBytes: 3 << 20,
		Sizes:      &queuepb.Histogram{Counts: []uint64{9: 0, 10: 100}, Sum: 70_000},
		Latencies:  &queuepb.Histogram{Counts: latencies, Sum: 100_000_000},
		StoreBytes: 20 << 20, FreeBytes: 5 << 30, WantedFreeBytes: 1 << 30,
	}
	res := &queuepb.GetServerStatisticsResponse{MemoryBytes: 1000, MemoryLimitBytes: 1 << 30, Journal: j}
	want := `memory  1000 B, limit 1.0 GiB
journal keeps up
batches 100, 68.4 KiB, written to disk 3.0 MiB
size    half up to 1023 B, 99 % up to 1023 B
latency half up to 1.05ms, 99 % up to 8.39ms, mean 1ms
disk    store 20.0 MiB, free 5.0 GiB, wanted free 1.0 GiB
`
	if diff := cmp.Diff(want, newStatsRecord(res).text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	j.Stalled, j.NearlyFull = true, true
	want = `memory  1000 B, limit 1.0 GiB
journal has stalled: requests are refused
batches 100, 68.4 KiB, written to disk 3.0 MiB
size    half up to 1023 B, 99 % up to 1023 B
latency half up to 1.05ms, 99 % up to 8.39ms, mean 1ms
disk    store 20.0 MiB, free 5.0 GiB, wanted free 1.0 GiB: nearly full, new messages are refused
`
	if diff := cmp.Diff(want, newStatsRecord(res).text()); diff != "" {
		t.Errorf("in trouble, -want +got:\n%s", diff)
	}
	none := newStatsRecord(&queuepb.GetServerStatisticsResponse{Journal: &queuepb.JournalStatistics{}})
	if none.Journal.LatencyP99 != 0 || none.Journal.LatencyMean != 0 || none.Journal.SizeP50 != 0 {
		t.Errorf("a journal that has kept nothing: %+v", none.Journal)
	}
}

// TestStatsTextNATS: the same of one of several replicas, whose journal is in NATS, which answers and does not.
func TestStatsTextNATS(t *testing.T) {
	j := &queuepb.JournalStatistics{
		Batches: 2, BatchBytes: 5 << 20, WrittenBytes: 6 << 20, Stream: "REPLYQ_main", SentMessages: 15,
		StoreBytes: 9 << 20, StreamMessages: 20,
		Sizes: &queuepb.Histogram{Counts: []uint64{22: 2}}, Latencies: &queuepb.Histogram{Counts: []uint64{23: 2}, Sum: 12_000_000},
	}
	res := &queuepb.GetServerStatisticsResponse{MemoryBytes: 1000, Node: "r2", Journal: j}
	const same = `replica r2, which serves
memory  1000 B, no limit
journal keeps up
batches 2, 5.0 MiB, sent to NATS 6.0 MiB in 15 messages
size    half up to 4.0 MiB, 99 % up to 4.0 MiB
latency half up to 8.39ms, 99 % up to 8.39ms, mean 6ms
`
	for _, test := range []struct {
		change func()
		want   string
	}{
		{func() {}, "stream  REPLYQ_main: 9.0 MiB in 20 messages, no limit\n"},
		{func() { j.StreamLimitBytes = 1 << 30 }, "stream  REPLYQ_main: 9.0 MiB in 20 messages, limit 1.0 GiB\n"},
		{func() { j.StoreBytes, j.StreamMessages, j.StreamLimitBytes = 0, 0, 0 }, "stream  REPLYQ_main: NATS does not answer\n"},
	} {
		test.change()
		if diff := cmp.Diff(same+test.want, newStatsRecord(res).text()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}
