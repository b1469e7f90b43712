package main

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/replyq/replyq/client"
)

// The filler of depth: enqueues numbered messages in batches, and consumes them, each of which has to be the next one.

const (
	depthQueue   = "bench.deep"
	depthEnqueue = "enqueue"
	depthConsume = "consume"
	depthBatch   = 1000 // as large as a batch may be
)

func depthFiller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	d := &deepening{client: c}
	return &part{
		tasks: map[string]func(int) error{depthEnqueue: d.enqueue, depthConsume: d.consume},
		close: func() { _ = c.Close() }, // the run is over
	}, nil
}

// deepening knows which messages are in the queue.
type deepening struct {
	client             *client.Client
	enqueued, consumed uint64
}

func (d *deepening) enqueue(n int) error {
	payloads := make([]byte, depthBatch*depthPayload)
	items := make([]client.Item, depthBatch)
	for n > 0 {
		items = items[:min(n, depthBatch)]
		for i := range items {
			d.enqueued++
			p := payloads[i*depthPayload : (i+1)*depthPayload]
			binary.LittleEndian.PutUint64(p[sequenceAt:], d.enqueued)
			items[i] = client.Item{Queue: depthQueue, Message: client.Message{Payload: p}}
		}
		results, err := d.client.EnqueueBatch(context.Background(), items...)
		if err != nil {
			return err
		}
		for i := range results {
			if results[i].Err != nil {
				return results[i].Err
			}
		}
		n -= len(items)
	}
	return nil
}

func (d *deepening) consume(n int) error {
	config := client.WorkConfig{Concurrency: 1, Prefetch: 4095, MaxDeliveries: n}
	end := d.consumed + uint64(n) //nolint:gosec // not negative
	err := d.client.Work(context.Background(), config, func(_ context.Context, m *client.Delivery) (*client.Answer, error) {
		d.consumed++
		if got := binary.LittleEndian.Uint64(m.Payload[sequenceAt:]); got != d.consumed {
			fatal(fmt.Errorf("message %d comes where %d is due: one was lost, repeated or overtaken", got, d.consumed))
		}
		return nil, nil
	}, depthQueue)
	if err == nil && d.consumed != end {
		err = fmt.Errorf("consuming ended at message %d, not %d", d.consumed, end)
	}
	return err
}
