package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/replyq/replyq/client"
)

// The filler of depth and of stores on disk: enqueues numbered messages in batches, and consumes them, each of which has to
// be the next one.

const (
	depthQueue   = "bench.deep"
	depthEnqueue = "enqueue"
	depthConsume = "consume"
	depthBatch   = 1000 // as large as a batch may be

	diskChurned = "churn"    // enqueue and consume at the same time
	diskTakeOne = "take one" // of those that an earlier filler has enqueued
	diskCount   = "count"    // that there are so many

	// churnAhead is how many messages are in the queue at most.
	churnAhead = 10_000
)

func depthFiller(j *job) (*part, error) {
	c, err := replyqClient(j)
	if err != nil {
		return nil, err
	}
	d := &deepening{client: c, payload: max(j.Shape.Payload, depthPayload)}
	return &part{
		tasks: map[string]func(int) error{depthEnqueue: d.enqueue, depthConsume: d.consume,
			diskChurned: d.churn, diskTakeOne: d.takeOne, diskCount: d.count},
		close: func() { _ = c.Close() }, // the run is over
	}, nil
}

// deepening knows which messages are in the queue.
type deepening struct {
	client             *client.Client
	payload            int // bytes
	enqueued, consumed uint64
}

func (d *deepening) enqueue(n int) error {
	payloads := make([]byte, depthBatch*d.payload)
	items := make([]client.Item, depthBatch)
	for n > 0 {
		items = items[:min(n, depthBatch)]
		for i := range items {
			d.enqueued++
			p := payloads[i*d.payload : (i+1)*d.payload]
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

// churn enqueues and consumes n messages, so that few of them are there at a time.
func (d *deepening) churn(n int) error {
	for n > 0 {
		step := min(n, churnAhead)
		consumed := make(chan error, 1)
		go func() { consumed <- d.consume(step) }()
		if err := errors.Join(d.enqueue(step), <-consumed); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// takeOne consumes a message, whichever comes.
func (d *deepening) takeOne(int) error {
	ctx, cancel := connectContext()
	defer cancel()
	consumer, err := d.client.Consume(ctx, client.ConsumeConfig{MaxDeliveries: 1}, depthQueue)
	if err != nil {
		return err
	}
	m, err := consumer.Next(ctx)
	if err != nil {
		return err
	}
	return m.Ack(ctx)
}

// count is content if the queue has n messages.
func (d *deepening) count(n int) error {
	ctx, cancel := connectContext()
	defer cancel()
	q, err := d.client.Queue(ctx, depthQueue)
	if err != nil {
		return err
	}
	if got := q.GetStatistics().GetReady(); got != uint64(n) { //nolint:gosec // not negative
		return fmt.Errorf("%d messages are stored, want %d", got, n)
	}
	return nil
}
