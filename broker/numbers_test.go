package broker

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/journal"
)

// TestNumberOfADeletedQueueIsNotGivenAgain: what is remembered of a deleted queue, such as the keys that were used with it, is not taken for a
// new one's after a restart, although nothing of the deleted one is in the journal any more.
func TestNumberOfADeletedQueueIsNotGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal.Memory{}
		key := &Key{ID: [16]byte{1}}
		b, s := openTrimming(t, j)
		do(t, s, 1, &Enqueue{Queue: "kept"})
		first := receipt(t, do(t, s, 2, &Enqueue{Queue: "deleted", Key: key}))
		do(t, s, 3, &DeleteQueue{Queue: "deleted", Force: true})
		for op := uint64(4); op < 40; op++ { // until the journal has forgotten all that
			do(t, s, op, &Enqueue{Queue: "kept"})
			<-time.After(time.Second)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		j = j.Reopen()
		b, s = openTrimming(t, j)
		second := receipt(t, do(t, s, 100, &Enqueue{Queue: "new", Key: key}))
		if second.Duplicate || second.Message == first.Message {
			t.Errorf("a message to a new queue is taken for one to a deleted queue: %+v", second)
		}
		<-time.After(2 * time.Hour) // numbers are given again by then
		third := receipt(t, do(t, s, 101, &Enqueue{Queue: "newer", Key: key}))
		if third.Duplicate {
			t.Errorf("a message to another new queue is taken for one to the first: %+v", third)
		}
		events := do(t, s, 102, &ListQueues{})
		if l, ok := events[0].Body.(*QueueList); !ok || len(l.Queues) != 3 {
			t.Errorf("got %+v, want three queues", events[0].Body)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestKeysAreNumberedOn: when all keys are forgotten, and the journal tells nothing of them, those to come are numbered on after a
// restart. Who has read the journal along from before would take them for forgotten ones.
func TestKeysAreNumberedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal.Memory{}
		b, s := openTrimming(t, j)
		for op := uint64(1); op < 10; op++ {
			receipt(t, do(t, s, op, &Enqueue{Queue: "q", Key: &Key{ID: [16]byte{byte(op)}}}))
		}
		<-time.After(11 * time.Minute)
		for op := uint64(10); op < 100; op++ {
			do(t, s, op, &Enqueue{Queue: "q"})
		}
		next := nextKey(b)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ = openTrimming(t, j.Reopen())
		if got := nextKey(b); got != next || next != 9 {
			t.Errorf("the next key has the number %d before a restart and %d after it, want 9", next, got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func nextKey(b *Broker) uint64 {
	r := b.runners[0]
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shard.st.keys.next()
}

// openTrimming opens a broker whose journal is trimmed all the time.
func openTrimming(t *testing.T, j *journal.Memory) (*Broker, *Session) {
	t.Helper()
	b, err := Open(Config{Store: 9, Journal: func(uint16) (journal.Journal, error) { return j, nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range b.runners {
		r.mu.Lock()
		r.keeper.log.slack, r.keeper.log.least, r.keeper.log.most = math.MinInt64/2, 1, 2_000
		r.mu.Unlock()
	}
	return b, b.Attach(Identity{Tenant: 1, Principal: "p"}, SessionOptions{ID: []byte("a session")})
}

// do carries an operation out and returns what its session is told.
func do(t *testing.T, s *Session, op uint64, r Request) []Event {
	t.Helper()
	s.Submit([]Op{{ID: op, Credit: 1, Request: r}})
	synctest.Wait()
	events := s.Take(nil)
	if len(events) == 0 {
		t.Fatalf("operation %d was not answered", op)
	}
	return events
}

func receipt(t *testing.T, events []Event) *Receipt {
	t.Helper()
	r, ok := events[0].Body.(*Receipt)
	if !ok {
		t.Fatalf("got %+v, want a receipt", events[0].Body)
	}
	return r
}
