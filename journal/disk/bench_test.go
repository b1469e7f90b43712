package disk_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/disk"
)

// opBytes is what one operation is in the benchmarks.
const opBytes = 200

// BenchmarkAppend appends batches of 1 and 64 operations to a shard, one at a time, and in turn writes and fsyncs the same
// bytes to a file, which is the barest way: the disk's mood is the same for both. It reports the medians and their ratio.
func BenchmarkAppend(b *testing.B) {
	for _, ops := range []int{1, 64} {
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			batch := noise(ops * opBytes)
			s := open(b, b.TempDir(), disk.Options{})
			j := journalOf(b, s, 0)
			f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close() //nolint:errcheck // a file that nobody reads
			var appends, bares []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := f.Write(batch); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				bare := time.Now()
				if _, err := j.Append(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				bares, appends = append(bares, bare.Sub(began)), append(appends, time.Since(bare))
			}
			x, y := median(appends), median(bares)
			b.ReportMetric(float64(x), "p50-append-ns")
			b.ReportMetric(float64(y), "p50-bare-ns")
			b.ReportMetric(float64(x)/float64(y), "x-bare")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkShards appends to several shards at the same time: their commits share fsyncs.
func BenchmarkShards(b *testing.B) {
	for _, shards := range []int{1, 4, 8} {
		b.Run(fmt.Sprint(shards), func(b *testing.B) {
			s := open(b, b.TempDir(), disk.Options{Shards: shards})
			journals := make([]journal.Journal, shards)
			for i := range journals {
				journals[i] = journalOf(b, s, i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			appendEach(b, journals, noise(64*opBytes), b.N)
			b.StopTimer()
			b.ReportMetric(float64(s.Stats().Fsyncs)/float64(b.N), "fsyncs/op")
		})
	}
}

// appendEach appends n batches in all, to all journals at the same time.
func appendEach(tb testing.TB, journals []journal.Journal, batch []byte, n int) {
	tb.Helper()
	var wg sync.WaitGroup
	for i, j := range journals {
		mine := n / len(journals)
		if i < n%len(journals) {
			mine++
		}
		wg.Go(func() {
			for range mine {
				if _, err := j.Append(tb.Context(), batch); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// noise is bytes that do not compress.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[i] = byte(x)
	}
	return out
}

var churnFlag = flag.Int("disk.churn", 300_000, "how many messages of 200 bytes go through the store in the test of space")

// TestSpaceAfterChurn has many messages go through a store in which next to nothing is live. It is trimmed like a shard does
// it, when the log is 64 MB long, and must stay small.
func TestSpaceAfterChurn(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			s := open(t, t.TempDir(), disk.Options{Shards: shards, FsyncInterval: 1 << 30})
			const ops = 64
			batch := noise(ops * opBytes)
			keep := journal.Position(64 << 20 / len(batch) / shards)
			var most uint64
			journals := make([]journal.Journal, shards)
			for i := range journals {
				journals[i] = journalOf(t, s, i)
			}
			for range *churnFlag / ops / shards {
				for _, j := range journals {
					p, err := j.Append(t.Context(), batch)
					if err != nil {
						t.Fatal(err)
					}
					if p%keep == 0 {
						if err := j.Trim(t.Context(), p); err != nil {
							t.Fatal(err)
						}
					}
					if p%200 == 0 {
						most = max(most, stored(t, s))
					}
				}
			}
			most = max(most, stored(t, s))
			st := s.Stats()
			t.Logf("%d messages: the store took %d MB at most, %d MB at the end; written %.2f times", *churnFlag, most>>20,
				stored(t, s)>>20, float64(st.Written)/float64(st.Bytes))
			if most > 256<<20 {
				t.Errorf("the store took %d bytes, want at most 256 MB", most)
			}
		})
	}
}

func stored(t testing.TB, s *disk.Store) uint64 {
	t.Helper()
	space, err := s.Space()
	if err != nil {
		t.Fatal(err)
	}
	return space.Store
}
