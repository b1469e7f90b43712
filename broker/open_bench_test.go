package broker_test

import (
	"fmt"
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/journal"
)

// BenchmarkOpen measures how long a broker takes to rebuild what its journals have: 1,000,000 messages of 200 bytes.
func BenchmarkOpen(b *testing.B) {
	const messages = 1_000_000
	for _, shards := range []int{1, 8} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			kept := make([]journal.Memory, shards)
			cfg := broker.Config{Shards: shards, Store: 5, Journal: func(n uint16) (journal.Journal, error) { return keptOpen{&kept[n]}, nil }}
			fill(b, cfg, messages)
			b.ResetTimer()
			for b.Loop() {
				br, err := broker.Open(cfg)
				if err != nil {
					b.Fatal(err)
				}
				if got := br.Contents().Messages; got != messages {
					b.Fatalf("%d messages", got)
				}
				if err := br.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill stores messages in 64 queues.
func fill(b *testing.B, cfg broker.Config, messages int) {
	br, err := broker.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	const batch = 1000
	ops := make([]broker.Op, batch)
	p := br.Attach(broker.Identity{Tenant: 1, Principal: "p"}, broker.SessionOptions{})
	defer p.Close()
	for i := 0; i < messages; i += batch {
		queue := fmt.Sprintf("queue-%d", i/batch%64)
		for k := range ops {
			ops[k] = broker.Op{ID: uint64(i + k + 1), Request: &broker.Enqueue{Queue: queue, Body: make([]byte, 200)}}
		}
		p.Submit(ops)
		take(b, p, batch)
	}
	if err := br.Close(); err != nil {
		b.Fatal(err)
	}
}

func take(b *testing.B, s *broker.Session, n int) {
	for n > 0 {
		<-s.Ready()
		if err := s.CutOff(); err != nil {
			b.Fatal(err)
		}
		n -= len(s.Take(nil))
	}
}
