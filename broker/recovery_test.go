package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

// BenchmarkRecovery measures how long a broker takes to open with a million messages of 200 bytes in its journals, half of
// them with a pipe that somebody waits for; the time for reading from a disk is not in it.
func BenchmarkRecovery(b *testing.B) {
	for _, shards := range []int{1, 8} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) { benchmarkRecovery(b, shards) })
	}
}

func benchmarkRecovery(b *testing.B, shards int) {
	const n = 1_000_000
	kept := make([]journal.Memory, shards)
	cfg := broker.Config{Shards: shards, Store: 1, Journal: func(n uint16) (journal.Journal, error) { return keptOpen{&kept[n]}, nil }}
	br, err := broker.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	s := br.Attach(broker.Identity{Tenant: 1, Principal: "p"}, broker.SessionOptions{ID: []byte("a session of the producer")})
	for i := uint64(0); i < n; {
		ops := make([]broker.Op, 0, 500)
		queue := fmt.Sprint("queue-", i/500%64)
		for range cap(ops) {
			i++
			e := &broker.Enqueue{Queue: queue, Body: make([]byte, 200)}
			if i%2 == 0 {
				e.Pipe, e.Call = &broker.PipeOptions{Timeout: time.Hour}, true
			}
			ops = append(ops, broker.Op{ID: i, Credit: 10, Request: e})
		}
		s.AnsweredBelow(i - uint64(len(ops)))
		s.Submit(ops)
		for answered := 0; answered < len(ops); {
			<-s.Ready()
			answered += len(s.Take(nil))
		}
	}
	s.Close()
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if br, err = broker.Open(cfg); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := br.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
