package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream as a work queue, with the settings that were fastest: one replica, asynchronous publishing, a pull consumer
// that fetches ahead in large batches, and acks that are not awaited. A work queue requires an ack for each message, so
// acking many with one is not possible. The file store writes, and syncs as it does by default: every two minutes;
// or, as jetstream-sync, before it confirms.

const (
	jetstreamName = "BENCH"
	// jetstreamAhead is how many messages the consumer asks for at a time.
	jetstreamAhead = 4096
)

func jetstreamServer(j *job) (*part, error) {
	folder, err := os.MkdirTemp("", "replyq-bench-jetstream-")
	if err != nil {
		return nil, err
	}
	remove := func() { _ = os.RemoveAll(folder) } // the system cleans up too
	p, err := startNATS(&natsserver.Options{JetStream: true, StoreDir: folder, SyncAlways: j.System == systemSync})
	if err != nil {
		remove()
		return nil, err
	}
	stop := p.close
	p.close = func() { stop(); remove() }
	if err := jetstreamCreate(p.addr, j.System); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// jetstreamCreate makes the stream and its consumer.
func jetstreamCreate(addr, system string) error {
	conns, closeAll, err := natsConns(&job{Addr: addr, Shape: shape{Connections: 1}})
	if err != nil {
		return err
	}
	defer closeAll()
	js, err := jetstream.New(conns[0])
	if err != nil {
		return err
	}
	storage := jetstream.MemoryStorage
	if system != systemMemory {
		storage = jetstream.FileStorage
	}
	ctx, cancel := connectContext()
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: jetstreamName, Subjects: []string{natsSubject}, Retention: jetstream.WorkQueuePolicy, Storage: storage,
	})
	if err != nil {
		return err
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: natsGroup, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1,
		MemoryStorage: storage == jetstream.MemoryStorage,
	})
	return err
}

func jetstreamWorker(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	p := &part{handled: new(atomic.Int64), trace: new(atomic.Uint64), close: closeAll}
	for _, c := range conns {
		js, err := jetstream.New(c)
		if err == nil {
			err = jetstreamConsume(js, p)
		}
		if err != nil {
			closeAll()
			return nil, err
		}
		p.settled = func(ctx context.Context) (bool, error) {
			if err := c.FlushWithContext(ctx); err != nil { // the acks, which nobody awaits
				return false, err
			}
			stream, err := js.Stream(ctx, jetstreamName)
			if err != nil {
				return false, err
			}
			return stream.CachedInfo().State.Msgs == 0, nil
		}
	}
	return p, nil
}

func jetstreamConsume(js jetstream.JetStream, p *part) error {
	ctx, cancel := connectContext()
	defer cancel()
	consumer, err := js.Consumer(ctx, jetstreamName, natsGroup)
	if err != nil {
		return err
	}
	_, err = consumer.Consume(func(m jetstream.Msg) {
		if err := checkRequest(m.Data()); err != nil {
			fatal(err)
		}
		p.trace.Add(traceOf(m.Data()))
		p.handled.Add(1)
		if err := m.Ack(); err != nil {
			fatal(err)
		}
	}, jetstream.PullMaxMessages(jetstreamAhead))
	return err
}

// jetstreamCaller has a goroutine per connection that keeps its slots' messages in flight and awaits their acks in turn.
func jetstreamCaller(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	var streams []jetstream.JetStream
	for _, c := range conns {
		js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(j.Shape.InFlight))
		if err != nil {
			closeAll()
			return nil, err
		}
		streams = append(streams, js)
	}
	return &part{close: closeAll, run: func(l *load) error {
		return windows(l, len(streams), func(i int, s *slot) (jetstream.PubAckFuture, error) {
			return streams[i].PublishAsync(natsSubject, s.next())
		}, func(_ *slot, ack jetstream.PubAckFuture) error {
			select {
			case <-ack.Ok():
				return nil
			case err := <-ack.Err():
				return errors.Join(errors.New("a message was not stored"), err)
			case <-l.failed:
				return nil
			}
		})
	}}, nil
}
