package main

import (
	"fmt"
	"io"
	"math/bits"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/replyq/replyq/api/queuepb"
)

type statsCmd struct{}

// Help is shown by stats --help.
func (statsCmd) Help() string {
	return "Counts go from the start of the server on. Percentiles are at most twice too high. Of several replicas these are the " +
		"figures of the one that serves, whichever one --server names. They are told also while the journal has stalled.\n\n" + jsonHelp("server_statistics")
}

// Run shows the figures.
func (statsCmd) Run(a *app) error {
	if err := a.dial(); err != nil {
		return err
	}
	res, err := ask(a, a.client.ServerStatistics)
	if err != nil {
		return err
	}
	r := newStatsRecord(res)
	if a.JSON {
		a.emit(r)
		return nil
	}
	a.print(r.text())
	return nil
}

type statsRecord struct {
	Type             string         `json:"type"`
	Time             time.Time      `json:"time"`
	Node             string         `json:"node,omitempty"`
	MemoryBytes      uint64         `json:"memory_bytes"`
	MemoryLimitBytes uint64         `json:"memory_limit_bytes,omitempty"`
	Journal          *journalRecord `json:"journal,omitempty"`
}

type journalRecord struct {
	Batches         uint64   `json:"batches"`
	BatchBytes      uint64   `json:"batch_bytes"`
	WrittenBytes    uint64   `json:"written_bytes"`
	SizeP50         uint64   `json:"size_p50_bytes"`
	SizeP99         uint64   `json:"size_p99_bytes"`
	LatencyP50      float64  `json:"latency_p50_seconds"`
	LatencyP99      float64  `json:"latency_p99_seconds"`
	LatencyMean     float64  `json:"latency_mean_seconds"`
	Sizes           []uint64 `json:"sizes,omitempty"`
	Latencies       []uint64 `json:"latencies,omitempty"`
	StoreBytes      uint64   `json:"store_bytes"`
	FreeBytes       uint64   `json:"free_bytes"`
	WantedFreeBytes uint64   `json:"wanted_free_bytes"`
	NearlyFull      bool     `json:"nearly_full"`
	Stalled         bool     `json:"stalled"`
	Stream          string   `json:"stream,omitempty"`
	SentMessages    uint64   `json:"sent_messages,omitempty"`
	StreamMessages  uint64   `json:"stream_messages,omitempty"`
	StreamLimit     uint64   `json:"stream_limit_bytes,omitempty"`
}

func newStatsRecord(s *queuepb.GetServerStatisticsResponse) *statsRecord {
	r := &statsRecord{
		Type: "server_statistics", Time: s.GetTime().AsTime(), Node: s.GetNode(),
		MemoryBytes: s.GetMemoryBytes(), MemoryLimitBytes: s.GetMemoryLimitBytes(),
	}
	j := s.GetJournal()
	if j == nil {
		return r
	}
	r.Journal = &journalRecord{
		Batches: j.GetBatches(), BatchBytes: j.GetBatchBytes(), WrittenBytes: j.GetWrittenBytes(),
		SizeP50: quantile(j.GetSizes(), 0.5), SizeP99: quantile(j.GetSizes(), 0.99), Sizes: j.GetSizes().GetCounts(),
		LatencyP50: seconds(quantile(j.GetLatencies(), 0.5)), LatencyP99: seconds(quantile(j.GetLatencies(), 0.99)),
		LatencyMean: seconds(j.GetLatencies().GetSum() / max(j.GetBatches(), 1)), Latencies: j.GetLatencies().GetCounts(),
		StoreBytes: j.GetStoreBytes(), FreeBytes: j.GetFreeBytes(), WantedFreeBytes: j.GetWantedFreeBytes(),
		NearlyFull: j.GetNearlyFull(), Stalled: j.GetStalled(),
		Stream: j.GetStream(), SentMessages: j.GetSentMessages(), StreamMessages: j.GetStreamMessages(), StreamLimit: j.GetStreamLimitBytes(),
	}
	return r
}

func seconds(nanos uint64) float64 { return float64(nanos) / 1e9 }

// quantile is a value that so large a share of the values does not exceed, at most twice too high; 0 if there are none.
func quantile(h *queuepb.Histogram, share float64) uint64 {
	var all, n uint64
	for _, c := range h.GetCounts() {
		all += c
	}
	for i, c := range h.GetCounts() {
		if n += c; n > 0 && float64(n) >= share*float64(all) {
			return 1<<i - 1
		}
	}
	return 0
}

func (r *statsRecord) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	if r.Node != "" {
		fmt.Fprintf(w, "replica\t%s, which serves\n", r.Node)
	}
	fmt.Fprintf(w, "memory\t%s, %s\n", size(r.MemoryBytes), limitText(r.MemoryLimitBytes))
	if r.Journal == nil {
		fmt.Fprintf(w, "journal\tnone\n")
	} else {
		r.Journal.write(w)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

func (j *journalRecord) write(w io.Writer) {
	state := "keeps up"
	if j.Stalled {
		state = "has stalled: requests are refused"
	}
	fmt.Fprintf(w, "journal\t%s\n", state)
	fmt.Fprintf(w, "batches\t%d, %s, %s\n", j.Batches, size(j.BatchBytes), j.written())
	fmt.Fprintf(w, "size\thalf up to %s, 99 %% up to %s\n", size(j.SizeP50), size(j.SizeP99))
	fmt.Fprintf(w, "latency\thalf up to %s, 99 %% up to %s, mean %s\n", took(j.LatencyP50), took(j.LatencyP99), took(j.LatencyMean))
	if j.Stream != "" {
		fmt.Fprintf(w, "stream\t%s: %s\n", j.Stream, j.kept())
		return
	}
	room := ""
	if j.NearlyFull {
		room = ": nearly full, new messages are refused"
	}
	fmt.Fprintf(w, "disk\tstore %s, free %s, wanted free %s%s\n", size(j.StoreBytes), size(j.FreeBytes), size(j.WantedFreeBytes), room)
}

func (j *journalRecord) written() string {
	if j.Stream != "" {
		return fmt.Sprintf("sent to NATS %s in %d messages", size(j.WrittenBytes), j.SentMessages)
	}
	return "written to disk " + size(j.WrittenBytes)
}

// kept is what the stream has. It is never empty: whoever serves has left a message there.
func (j *journalRecord) kept() string {
	if j.StreamMessages == 0 {
		return "NATS does not answer"
	}
	return fmt.Sprintf("%s in %d messages, %s", size(j.StoreBytes), j.StreamMessages, limitText(j.StreamLimit))
}

func limitText(bytes uint64) string {
	if bytes == 0 {
		return "no limit"
	}
	return "limit " + size(bytes)
}

func took(seconds float64) time.Duration {
	return time.Duration(seconds * 1e9).Round(10 * time.Microsecond)
}

// size shows a number of bytes.
func size(n uint64) string {
	unit := max(bits.Len64(n)-1, 0) / 10
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(uint64(1)<<(10*unit)), "KMGTPE"[unit-1])
}
