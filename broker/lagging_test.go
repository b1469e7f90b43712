package broker_test

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/journal"
)

// A sharing journal holds others back until its head is behind a position.
type sharing struct {
	journal.Memory
	until atomic.Uint64
}

// Lagging says so.
func (j *sharing) Lagging() bool {
	return uint64(j.head()) < j.until.Load()
}

// Close leaves it open for the next broker.
func (*sharing) Close() error { return nil }

// head and tail are the positions of its first and last batch; 0 if it has none.
func (j *sharing) head() journal.Position { head, _ := j.bounds(); return head }
func (j *sharing) tail() journal.Position { _, tail := j.bounds(); return tail }

func (j *sharing) bounds() (head, tail journal.Position) {
	for r, err := range j.Read(context.Background(), 0) {
		if err == nil {
			head, tail = cmp.Or(head, r.Position), r.Position
		}
	}
	return head, tail
}

// TestIdleShardGivesWay: a shard in which nothing happens carries forward what it has, however much or little that is, when
// its journal lags, and is the same behind the trimmed head; and then it rests.
func TestIdleShardGivesWay(t *testing.T) {
	for _, messages := range []int{0, 1, 3_000} {
		t.Run(fmt.Sprintf("%d messages", messages), func(t *testing.T) {
			j := &sharing{}
			cfg := broker.Config{Store: 5, Journal: func(uint16) (journal.Journal, error) { return j, nil }}
			inBed(t, cfg, func(t *testing.T, b *bed) {
				c := b.attach("c")
				for range messages {
					c.do(&broker.Enqueue{Queue: "q", Body: make([]byte, 200)})
				}
				gone := c.do(&broker.Enqueue{Queue: "gone"})
				expect[*broker.Receipt](c, gone)
				expect[any](c, c.do(&broker.DeleteQueue{Queue: "gone", Force: true}))
				<-time.After(10 * time.Second)
				before := j.tail()
				if j.head() != 1 {
					t.Fatalf("the journal begins at %d though it does not lag", j.head())
				}
				j.until.Store(uint64(before) + 1)
				<-time.After(1100 * time.Millisecond)
				if j.head() <= before {
					t.Errorf("the journal begins at %d, want behind %d", j.head(), before)
				}
				if n := j.tail() - before; messages > 1000 && n < 5 {
					t.Errorf("%d messages were carried in %d appends, want several", messages, n)
				}
				rested := j.tail()
				<-time.After(time.Minute)
				if j.tail() != rested {
					t.Errorf("the shard went on: from %d to %d", rested, j.tail())
				}
			})
			j.until.Store(0)
			inBed(t, cfg, func(t *testing.T, b *bed) {
				if got := b.b.Contents().Messages; got != messages {
					t.Errorf("%d messages behind the restart, want %d", got, messages)
				}
			})
		})
	}
}

// TestEmptyShardGivesWay: one in which nothing ever happened has something to append, too.
func TestEmptyShardGivesWay(t *testing.T) {
	j := &sharing{}
	inBed(t, broker.Config{Journal: func(uint16) (journal.Journal, error) { return j, nil }}, func(t *testing.T, _ *bed) {
		for i := range journal.Position(3) {
			j.until.Store(uint64(i) + 2)
			<-time.After(2100 * time.Millisecond)
			if j.head() < i+2 {
				t.Errorf("the journal begins at %d, want %d at least", j.head(), i+2)
			}
		}
	})
}

// TestLaggingMakesNoStorm: a shard whose journal lags whatever it does has a round in a second, and no more; operations go on.
func TestLaggingMakesNoStorm(t *testing.T) {
	j := &sharing{}
	j.until.Store(1 << 60)
	inBed(t, broker.Config{Journal: func(uint16) (journal.Journal, error) { return j, nil }}, func(t *testing.T, b *bed) {
		c := b.attach("c")
		for range 10 {
			c.enqueue("q", handles.Handle{})
		}
		before := j.tail()
		<-time.After(10*time.Second + 1)
		synctest.Wait()
		if n := j.tail() - before; n < 9 || n > 11 {
			t.Errorf("%d appends in 10 s, want one each second", n)
		}
		if q := c.queue("q"); q.Ready != 10 {
			t.Errorf("%d messages, want 10", q.Ready)
		}
	})
}
