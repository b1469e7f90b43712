package broker_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// BenchmarkRequestReply measures what a Call, its delivery, and its Reply with ack cost in the broker alone, 64 to a
// Submit, as busy sessions do: without a journal, and with one that throws everything away.
func BenchmarkRequestReply(b *testing.B) {
	b.Run("journal=none", func(b *testing.B) { benchmarkRequestReply(b, broker.Config{}) })
	b.Run("journal=discard", func(b *testing.B) {
		benchmarkRequestReply(b, broker.Config{Journal: func(uint16) (journal.Journal, error) { return discard{&journal.Memory{}}, nil }})
	})
}

func benchmarkRequestReply(b *testing.B, cfg broker.Config) {
	br, err := broker.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = br.Close() }()
	keys, err := handles.NewEphemeral()
	if err != nil {
		b.Fatal(err)
	}
	id := broker.Identity{Tenant: 1, Principal: "p"}
	caller := br.Attach(id, broker.SessionOptions{ID: []byte("a session of the caller")})
	worker := br.Attach(id, broker.SessionOptions{ID: []byte("a session of the worker")})
	defer caller.Close()
	defer worker.Close()
	const batch = 64
	worker.Submit([]broker.Op{{ID: 1, Request: &broker.Consume{Queues: []string{"q"}, MaxInFlight: 2 * batch}}})
	body := make([]byte, 128)
	var calls, replies uint64 = 0, 1
	var events []broker.Event
	take := func(s *broker.Session, n int, each func(broker.Event)) {
		for n > 0 {
			<-s.Ready()
			events = s.Take(events[:0])
			for _, e := range events {
				each(e)
				n--
			}
		}
	}
	take(worker, 1, func(broker.Event) {})
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%batch != 0 {
			continue
		}
		ops := make([]broker.Op, 0, batch)
		for range batch {
			calls++
			ops = append(ops, broker.Op{ID: calls, Credit: 10, Request: &broker.Enqueue{Queue: "q", Body: body, Pipe: &broker.PipeOptions{}, Call: true}})
		}
		caller.AnsweredBelow(calls - batch)
		caller.Submit(ops)
		ops = make([]broker.Op, 0, batch)
		take(worker, batch, func(e broker.Event) {
			d, ok := e.Body.(*broker.Delivery)
			if !ok {
				b.Fatalf("got %T", e.Body)
			}
			replies++
			ops = append(ops, broker.Op{ID: replies, Request: &broker.Reply{
				Handle: keys.Mint(d.ReplyTo), Kind: broker.ReplyPayload, Body: body, Lease: keys.Mint(d.Lease), Ack: true,
			}})
		})
		worker.AnsweredBelow(replies - batch)
		worker.Submit(ops)
		take(worker, batch, func(broker.Event) {})
		take(caller, 3*batch, func(e broker.Event) { // receipt, reply, end
			if _, ok := e.Body.(*broker.End); ok {
				caller.Passed(e.Op)
			}
		})
	}
}

// discard keeps nothing.
type discard struct{ *journal.Memory }

func (discard) Append(context.Context, []byte) (journal.Position, error) { return 1, nil }

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkWaiting measures what a waiting request takes of the heap, in bytes.
func BenchmarkWaiting(b *testing.B) {
	br, err := broker.Open(broker.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = br.Close() }()
	caller := br.Attach(broker.Identity{Tenant: 1, Principal: "p"}, broker.SessionOptions{ID: []byte("a session of the caller")})
	defer caller.Close()
	const n = 200_000
	before := liveHeap()
	for i := range uint64(n) {
		caller.AnsweredBelow(i)
		caller.Submit([]broker.Op{{ID: i + 1, Credit: 10, Request: &broker.Enqueue{
			Queue: "q", Body: make([]byte, 128), Pipe: &broker.PipeOptions{}, Call: true,
		}}})
		caller.Take(nil)
	}
	b.ReportMetric(float64(liveHeap()-before)/n-128, "B/waiting")
}
