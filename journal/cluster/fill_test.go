package cluster_test

import (
	"errors"
	"testing"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// count counts the batches of shard 0.
func count(t *testing.T, s *cluster.Store) (n int) {
	t.Helper()
	for _, err := range take(t, s, 0).Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestFill: a service that is filled is nobody's until that is finished, and begins anew when it was not.
func TestFill(t *testing.T) {
	c := natstest.Start(t, natstest.Options{})
	use := cluster.Options{URL: c.URL(), Replicas: 1, Shards: 2}
	filling := use
	filling.Number, filling.Fill = 77, true
	for range 2 { // the first is cut short
		s := open(t, filling)
		if s.Number() != 77 {
			t.Errorf("Number() = %d, want 77", s.Number())
		}
		if n := count(t, s); n != 0 {
			t.Errorf("what is begun has %d batches, want none", n)
		}
		if _, err := take(t, s, 0).Append(t.Context(), []byte("batch")); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.Open(t.Context(), use); !errors.Is(err, cluster.ErrFilling) {
			t.Errorf("Open while it is filled: %v, want ErrFilling", err)
		}
		other := filling
		other.Number = 78
		if _, err := cluster.Open(t.Context(), other); err == nil || errors.Is(err, cluster.ErrFilled) {
			t.Errorf("Open to fill with another store: %v, want that there is one already", err)
		}
	}
	s := open(t, filling)
	if _, err := take(t, s, 0).Append(t.Context(), []byte("batch")); err != nil {
		t.Fatal(err)
	}
	if err := s.Filled(t.Context()); err != nil {
		t.Fatal(err)
	}
	used := open(t, use)
	if n := count(t, used); n != 1 || used.Number() != 77 {
		t.Errorf("there are %d batches in store %d, want 1 in 77", n, used.Number())
	}
	if _, err := cluster.Open(t.Context(), filling); !errors.Is(err, cluster.ErrFilled) {
		t.Errorf("Open to fill again: %v, want ErrFilled", err)
	}
}
