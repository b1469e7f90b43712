package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

// content reads all batches.
func content(t testing.TB, j journal.Journal) []string {
	t.Helper()
	var all []string
	for r, err := range j.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(r.Batch))
	}
	return all
}

func write(t testing.TB, j journal.Journal, batches ...string) {
	t.Helper()
	for _, b := range batches {
		if _, err := j.Append(t.Context(), []byte(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantContent(t testing.TB, j journal.Journal, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, content(t, j)); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

func TestDeposedOwnerKeepsNothing(t *testing.T) {
	c := shared(t)
	o := service(t, cluster.Options{URL: c.URL(), Node: "a"})
	a := take(t, open(t, o), 3)
	write(t, a, "one", "two")
	o.Node = "b"
	store := open(t, o)
	b := take(t, store, 3)
	wantContent(t, b, "one", "two")
	if _, err := a.Append(t.Context(), []byte("stale")); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("Append of the old owner: %v, want ErrDeposed", err)
	}
	if _, err := a.Append(t.Context(), []byte("stale")); !errors.Is(err, journal.ErrDeposed) {
		t.Errorf("Append of the old owner again: %v, want ErrDeposed", err)
	}
	write(t, b, "three")
	last, err := store.Shard(t.Context(), 3)
	if err != nil || last.Node != "b" {
		t.Errorf("Shard: %+v, %v; want node b", last, err)
	}
	wantContent(t, take(t, store, 3), "one", "two", "three")
}

// What a former owner has sent arrives behind another's fence, with every sequence that it can have expected, and even
// where a server let it in.
func TestStaleMessages(t *testing.T) {
	c := shared(t)
	o := service(t, cluster.Options{URL: c.URL(), Node: "a"})
	s := open(t, o)
	write(t, take(t, s, 0), "one", "two")
	js := jetStream(t, c)
	stream, err := js.Stream(t.Context(), "REPLYQ_"+o.Name)
	if err != nil {
		t.Fatal(err)
	}
	old, err := stream.GetLastMsgForSubject(t.Context(), "replyq."+o.Name+".log.0")
	if err != nil {
		t.Fatal(err)
	}
	o.Node = "b"
	b := take(t, open(t, o), 0)
	for expected := range old.Sequence + 1 {
		_, err := js.Publish(t.Context(), old.Subject, old.Data, jetstream.WithExpectLastSequencePerSubject(expected))
		var api *jetstream.APIError
		if !errors.As(err, &api) {
			t.Errorf("a stale message that expects sequence %d: %v, want a refusal", expected, err)
		}
	}
	write(t, b, "three")
	if _, err := js.Publish(t.Context(), old.Subject, old.Data); err != nil { // expects nothing
		t.Fatal(err)
	}
	write(t, b, "four")
	wantContent(t, b, "one", "two", "three", "four")
	if _, err := js.Publish(t.Context(), old.Subject, old.Data); err != nil {
		t.Fatal(err)
	}
	again := take(t, open(t, o), 0)
	wantContent(t, again, "one", "two", "three", "four")
	write(t, again, "five")
	wantContent(t, again, "one", "two", "three", "four", "five")
}

// Several nodes take a shard at the same time, again and again, and append: whatever was confirmed is there, in order.
func TestRace(t *testing.T) {
	t.Parallel()
	c := shared(t)
	o := service(t, cluster.Options{URL: c.URL()})
	const nodes, rounds = 3, 5
	kept := make(chan string, nodes*rounds*10)
	done := make(chan error, nodes)
	for n := range nodes {
		o.Node = fmt.Sprint(n)
		s := open(t, o)
		go func() { done <- race(t.Context(), s, n, rounds, kept) }()
	}
	for range nodes {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	close(kept)
	times := map[string]int{}
	for _, b := range content(t, take(t, open(t, o), 0)) {
		times[b]++
	}
	n := 0
	for b := range kept {
		if n++; times[b] != 1 {
			t.Errorf("the batch %s, which was confirmed, is there %d times, want once", b, times[b])
		}
	}
	if n == 0 {
		t.Error("no batch was confirmed")
	}
}

func race(ctx context.Context, s *cluster.Store, node, rounds int, kept chan<- string) error {
	for round := range rounds {
		j, err := s.Take(ctx, 0)
		for i := 0; err == nil && i < 10; i++ {
			batch := fmt.Sprint(node, round, i)
			if _, err = j.Append(ctx, []byte(batch)); err == nil {
				kept <- batch
			}
		}
		if err != nil && !errors.Is(err, journal.ErrDeposed) {
			return err
		}
	}
	return nil
}

func jetStream(t testing.TB, c *natstest.Cluster) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
