package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// TestOneDeposedShardEndsAll: when one shard's journal is another's, no shard confirms anything any more; everybody is cut
// off, also who waits for nothing or comes later; the broker says why, closes well, and has nothing to complain of.
func TestOneDeposedShardEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shards := make([]journal.Faulty, 5)
		var log bytes.Buffer
		br, err := broker.Open(broker.Config{
			Shards: 5, Journal: func(n uint16) (journal.Journal, error) { return shards[n].Open(n) },
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := handles.NewEphemeral()
		if err != nil {
			t.Fatal(err)
		}
		b := &bed{t, br, keys, 5}
		idle, plain, w := b.attach("idle"), b.attach(""), b.attach("w")
		c := make([]*client, 20)
		for i := range c {
			c[i] = b.attach(fmt.Sprint("client ", i))
			c[i].enqueue(fmt.Sprint("queue-", i), handles.Handle{})
		}
		take := w.consume("waits")
		for i := range shards[1:] {
			shards[1+i].Hang()
			defer shards[1+i].GoOn()
		}
		unkept := make([]uint64, len(c))
		for i := range c { // in some shard each
			unkept[i] = c[i].do(&broker.Enqueue{Queue: fmt.Sprint("queue-", i)})
		}
		synctest.Wait()
		waiting := 0
		for i := range c {
			if _, confirmed := c[i].poll(unkept[i]); !confirmed {
				waiting++
			}
		}
		if waiting == 0 || waiting == len(c) {
			t.Fatalf("%d of %d operations wait for a journal, want some", waiting, len(c))
		}
		shards[0].Fail(fmt.Errorf("epoch 8 was seen: %w", journal.ErrDeposed))
		for i := 0; ; i++ { // until one of them meets the first shard
			probe := b.attach(fmt.Sprint("probe ", i))
			probe.do(&broker.Enqueue{Queue: fmt.Sprint("probe-", i)})
			synctest.Wait()
			if cut := probe.s.CutOff(); cut != nil {
				break
			}
		}
		for i := range shards[1:] {
			shards[1+i].GoOn() // their appends end well
		}
		later := b.attach("later")
		for _, s := range append([]*client{idle, plain, w, later}, c...) {
			if err := s.s.CutOff(); err == nil || err.Reason != broker.ReasonOwnerChanged || !err.OutcomeUnknown || err.RetryAfter == 0 {
				t.Errorf("a session was cut off with %+v, want OWNER_CHANGED", err)
			}
		}
		for i := range c {
			c[i].quiet(unkept[i])
			op := c[i].do(&broker.Enqueue{Queue: fmt.Sprint("queue-", i)})
			c[i].quiet(op)
		}
		w.quiet(take)
		if err := b.b.Stalled(); err == nil || err.Reason != broker.ReasonOwnerChanged {
			t.Errorf("Stalled() = %v, want OWNER_CHANGED", err)
		}
		if err := <-b.b.Failed(); !errors.Is(err, journal.ErrDeposed) {
			t.Errorf("Failed gave %v", err)
		}
		before := time.Now()
		if err := b.b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(before); took > 0 {
			t.Errorf("Close waited for %v", took)
		}
		if text := log.String(); strings.Contains(text, "level=ERROR") || strings.Count(text, "nothing more is confirmed") != 1 {
			t.Errorf("the log has:\n%s", text)
		}
	})
}

// TestLeave: what was accepted is kept and answered, everybody is cut off, and the next owner goes on where this one was.
func TestLeave(t *testing.T) {
	for _, shards := range []int{1, 5} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			kept := make([]journal.Memory, shards)
			cfg := broker.Config{Shards: shards, Store: 5, Journal: func(n uint16) (journal.Journal, error) { return keptOpen{&kept[n]}, nil }}
			var (
				keys    *handles.KeyRing
				receipt *broker.Receipt
				held    delivery
			)
			inBed(t, cfg, func(t *testing.T, b *bed) {
				keys = b.keys
				idle, c, w := b.attach("idle"), b.attach("c"), b.attach("w")
				take := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "w"})
				expect[*broker.Started](w, take)
				_, receipt = c.call("q", "m", broker.PipeOptions{})
				held = w.delivered(take)
				accepted := c.do(&broker.Enqueue{Queue: "later"})
				before := time.Now()
				if err := b.b.Leave(t.Context()); err != nil {
					t.Errorf("Leave: %v", err)
				}
				if took := time.Since(before); took > 0 {
					t.Errorf("Leave waited for %v", took)
				}
				expect[*broker.Receipt](c, accepted)
				for _, s := range []*client{idle, c, w, b.attach("later"), b.attach("")} {
					s.isCut(broker.ReasonOwnerChanged)
					s.quiet(s.do(&broker.ListQueues{}))
				}
				late := b.attach("")
				late.s.Submit([]broker.Op{{ID: 1, Request: &broker.ListQueues{}}})
				late.isCut(broker.ReasonOwnerChanged)
				w.s.Close()
				c.s.Close()
			})
			inBed(t, cfg, func(t *testing.T, b *bed) {
				b.keys = keys
				c, w := b.attach("c"), b.attach("w")
				c.op, w.op = 100, 100
				if q := c.queue("later"); q.Ready != 1 {
					t.Errorf("%d messages were kept, want 1", q.Ready)
				}
				read := c.receive(keys.Mint(receipt.Receive), 1)
				take := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "w", Held: []handles.Handle{held.lease}})
				expect[*broker.Started](w, take)
				w.send(&broker.Reply{Handle: held.replyTo, Body: []byte("v"), Lease: held.lease, Ack: true}, broker.ReplyDelivered)
				c.replies(read, 1, "v")
				c.ends(read, broker.EndOK)
			})
		})
	}
}

// TestLeaveCutsNobodyTooEarly: who sends something while what was accepted is still to be kept is not cut off before the
// deliveries that it brings: lost ones would wait for their leases to end.
func TestLeaveCutsNobodyTooEarly(t *testing.T) {
	for _, shards := range []int{1, 5} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			journals := make([]journal.Faulty, shards)
			cfg := broker.Config{Shards: shards, Journal: func(n uint16) (journal.Journal, error) { return journals[n].Open(n) }}
			inBed(t, cfg, func(t *testing.T, b *bed) {
				c, w := b.attach("c"), b.attach("w")
				take := w.do(&broker.Consume{Queues: []string{"q"}, MaxInFlight: 1, ConsumerID: "w"})
				expect[*broker.Started](w, take)
				for i := range journals {
					journals[i].Hang()
				}
				accepted := c.do(&broker.Enqueue{Queue: "q"})
				left := make(chan error, 1)
				go func() { left <- b.b.Leave(t.Context()) }()
				synctest.Wait()
				for _, s := range []*client{c, w} {
					s.quiet(s.do(&broker.ListQueues{}))
					if cut := s.s.CutOff(); cut != nil {
						t.Errorf("cut off with %v before what was accepted is said", cut)
					}
				}
				for i := range journals {
					journals[i].GoOn()
				}
				if err := <-left; err != nil {
					t.Errorf("Leave: %v", err)
				}
				expect[*broker.Receipt](c, accepted)
				w.delivered(take)
				c.isCut(broker.ReasonOwnerChanged)
				w.isCut(broker.ReasonOwnerChanged)
			})
		})
	}
}

// A lost journal is one whose cluster does not answer.
type lost struct{ journal.Memory }

// Append implements [journal.Journal].
func (*lost) Append(ctx context.Context, _ []byte) (journal.Position, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestLeaveDoesNotWaitForLong: when nothing can be kept, Leave ends with its context, and nobody was told anything.
func TestLeaveDoesNotWaitForLong(t *testing.T) {
	inBed(t, broker.Config{Journal: func(uint16) (journal.Journal, error) { return &lost{}, nil }}, func(t *testing.T, b *bed) {
		c := b.attach("c")
		op := c.do(&broker.Enqueue{Queue: "q"})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		before := time.Now()
		if err := b.b.Leave(ctx); err != nil {
			t.Errorf("Leave: %v", err)
		}
		if took := time.Since(before); took != 50*time.Millisecond {
			t.Errorf("Leave took %v, want 50ms", took)
		}
		c.isCut(broker.ReasonOwnerChanged)
		c.quiet(op)
	})
}
