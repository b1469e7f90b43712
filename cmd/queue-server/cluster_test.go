package main

import (
	"testing"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// TestStreamFigures: what is told of a journal in NATS is what was appended, sent and stored; without NATS, what was.
func TestStreamFigures(t *testing.T) {
	nats := natstest.Start(t, natstest.Options{})
	store, err := cluster.Open(t.Context(), cluster.Options{URL: nats.URL(), Replicas: 1, Shards: 1, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }() // nothing is under way
	j, err := store.Take(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range []string{"one", "three"} {
		if _, err := j.Append(t.Context(), []byte(batch)); err != nil {
			t.Fatal(err)
		}
	}
	f := streamFigures(t.Context(), store)
	if f.Batches != 2 || f.Bytes != 8 || f.Sizes[2] != 1 || f.Sizes[3] != 1 || f.SizeSum != 8 || f.LatencySum == 0 {
		t.Errorf("%+v: want two batches of 3 and 5 bytes", f)
	}
	if f.Stream != "REPLYQ_main" || f.SentMessages != 3 || f.StreamMessages != 3 || f.Written <= 8 || f.Store < f.Written {
		t.Errorf("%+v: want three messages that were sent, and are in the stream REPLYQ_main", f)
	}
	store.Conn().Close()
	lost := streamFigures(t.Context(), store)
	if lost.Batches != 2 || lost.Written != f.Written || lost.Stream != f.Stream || lost.StreamMessages != 0 || lost.Store != 0 {
		t.Errorf("without a connection %+v: want the same without what is in the stream", lost)
	}
}
