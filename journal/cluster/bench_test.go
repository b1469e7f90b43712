package cluster_test

import (
	"sync"
	"testing"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// 64 KiB batches by eight shards at a time, then reading them all.
func BenchmarkAppend(b *testing.B) {
	for name, sync := range map[string]bool{"sync": true, "no sync": false} {
		b.Run(name, func(b *testing.B) {
			c := natstest.Start(b, natstest.Options{Nodes: 3, Sync: sync})
			s := open(b, cluster.Options{URL: c.URL(), Node: "a"})
			benchmarkAppend(b, s)
		})
	}
}

func benchmarkAppend(b *testing.B, s *cluster.Store) {
	batch := make([]byte, 64<<10)
	work := make(chan struct{})
	var wg sync.WaitGroup
	for i := range s.Shards() {
		j := take(b, s, i)
		wg.Go(func() {
			for range work {
				if _, err := j.Append(b.Context(), batch); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}
