package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/journal"
)

// TestStalledDisk: while the server's disk hangs, callers wait, with contexts that work, and workers keep what they have;
// when it goes on so does everything, and it happened once.
func TestStalledDisk(t *testing.T) {
	for _, hangs := range []time.Duration{500 * time.Millisecond, 3 * time.Second, 20 * time.Second, 50 * time.Second} {
		t.Run(hangs.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &journal.Faulty{}
				bed := testbed.New(t, testbed.InMemory(), testbed.WithBroker(func(c *broker.Config) { c.Journal = d.Open }))
				t.Cleanup(d.GoOn)
				testStalledDisk(t, bed, d, hangs)
			})
		})
	}
}

func testStalledDisk(t *testing.T, bed *testbed.Bed, d *journal.Faulty, hangs time.Duration) {
	c, w := newClient(t, bed), newClient(t, bed)
	ctx := context.WithoutCancel(t.Context())
	worked := make(chan string, 100)
	release := make(chan struct{})
	stop := work(t, w, client.WorkConfig{Concurrency: 100, LeaseTime: 10 * time.Second}, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
		worked <- fmt.Sprintf("%s, attempt %d", d.Payload, d.Attempt)
		<-release
		return &client.Answer{Payload: d.Payload}, nil
	}, "jobs")
	answers := make(chan error, 100)
	ask := func(name string) {
		go func() {
			r, err := c.Call(ctx, "jobs", text(name)).One()
			if err == nil && string(r.Payload) != name {
				err = fmt.Errorf("answer %q to %q", r.Payload, name)
			}
			answers <- err
		}()
	}
	for i := range 10 {
		ask(fmt.Sprint("before ", i))
	}
	synctest.Wait()

	d.Hang()
	close(release) // the workers' answers wait for the disk, too
	var enqueued sync.WaitGroup
	for i := range 10 {
		ask(fmt.Sprint("meanwhile ", i))
		enqueued.Go(func() {
			if _, err := c.Enqueue(ctx, "stored", text(fmt.Sprint(i))); err != nil {
				t.Errorf("Enqueue: %v", err)
			}
			results, err := c.EnqueueBatch(ctx, client.Item{Queue: "stored", Message: text("batch")})
			if err == nil {
				err = results[0].Err
			}
			if err != nil {
				t.Errorf("EnqueueBatch: %v", err)
			}
		})
	}
	late, cancel := context.WithTimeout(ctx, hangs/2)
	defer cancel()
	if _, err := c.Enqueue(late, "late", text("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enqueue with a deadline = %v, want that it has passed", err)
	}
	<-time.After(hangs - hangs/2)
	d.GoOn()
	enqueued.Wait()
	for range 20 {
		if err := <-answers; err != nil {
			t.Errorf("Call: %v", err)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Work: %v", err)
	}
	close(worked)
	seen := make(map[string]int)
	for what := range worked {
		seen[what]++
	}
	for i := range 10 {
		if name := fmt.Sprintf("before %d, attempt 1", i); seen[name] != 1 {
			t.Errorf("%q was worked on %d times, want once", name, seen[name])
		}
		// What was on its way to a worker that was cut off counts as an attempt, as after any cut.
		name := fmt.Sprintf("meanwhile %d, attempt ", i)
		if n := seen[name+"1"] + seen[name+"2"]; n != 1 {
			t.Errorf("%q was worked on %d times, want once", name, n)
		}
	}
	if len(seen) != 20 {
		t.Errorf("worked on %v, want 20 messages once", seen)
	}
	q, err := c.Queue(ctx, "stored")
	if err != nil {
		t.Fatal(err)
	}
	if q.GetStatistics().GetReady() != 20 {
		t.Errorf("%d messages are stored, want 20", q.GetStatistics().GetReady())
	}
}

// TestJournalFailed: who waits for a server whose disk has failed waits for the next one, as after any end.
func TestJournalFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &journal.Faulty{}
		bed := testbed.New(t, testbed.InMemory(), testbed.WithBroker(func(c *broker.Config) { c.Journal = d.Open }))
		c := newClient(t, bed)
		d.Fail(errors.New("input/output error"))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_, err := c.Enqueue(ctx, "q", text("x"))
		var e *client.Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Outcome != client.OutcomeUnknown {
			t.Errorf("Enqueue = %v, want that the deadline passed, with an unknown outcome", err)
		}
	})
}
