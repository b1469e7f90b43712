package cluster_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// 64 KiB batches, and such that take four messages, by eight shards at a time.
func BenchmarkAppend(b *testing.B) {
	for name, sync := range map[string]bool{"sync": true, "no sync": false} {
		for _, size := range []int{64 << 10, 4 << 20} {
			b.Run(fmt.Sprint(name, " ", size>>10, "KiB"), func(b *testing.B) {
				c := natstest.Start(b, natstest.Options{Nodes: 3, Sync: sync})
				s := open(b, cluster.Options{URL: c.URL(), Node: "a"})
				benchmarkAppend(b, s, size)
			})
		}
	}
}

func benchmarkAppend(b *testing.B, s *cluster.Store, size int) {
	batch := noise(size)
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

// What a new owner does: reading all of a service's shards, at the same time.
func BenchmarkRead(b *testing.B) {
	for _, test := range []struct{ size, total int }{{64 << 10, 300 << 20}, {2 << 10, 60 << 20}} {
		b.Run(fmt.Sprint(test.size>>10, "KiB"), func(b *testing.B) {
			c := natstest.Start(b, natstest.Options{Nodes: 3})
			s := open(b, cluster.Options{URL: c.URL(), Node: "a"})
			fill(b, s, test.size, test.total)
			reader := open(b, cluster.Options{URL: c.URL(), Node: "b"})
			b.SetBytes(int64(test.total))
			for b.Loop() {
				benchmarkRead(b, reader, test.total)
			}
		})
	}
}

func fill(b *testing.B, s *cluster.Store, size, total int) {
	batch := noise(size)
	var wg sync.WaitGroup
	for i := range s.Shards() {
		j := take(b, s, i)
		wg.Go(func() {
			for range total / size / s.Shards() {
				if _, err := j.Append(b.Context(), batch); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func benchmarkRead(b *testing.B, s *cluster.Store, total int) {
	var wg sync.WaitGroup
	for i := range s.Shards() {
		j := take(b, s, i)
		wg.Go(func() {
			bytes := 0
			for r, err := range j.Read(b.Context(), 0) {
				if err != nil {
					b.Error(err)
				}
				bytes += len(r.Batch)
			}
			if bytes != total/s.Shards() {
				b.Errorf("read %d bytes of a shard, want %d", bytes, total/s.Shards())
			}
		})
	}
	wg.Wait()
}
