package cluster_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

var (
	seed   = flag.Uint64("cluster.seed", 0, "of random tests; 0: another one each time")
	rounds = flag.Int("cluster.rounds", 15, "of random tests")
)

// random makes a source of random numbers, and prints its seed.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-args -cluster.seed=%d", n)
	return rand.New(rand.NewPCG(n, 0)) //nolint:gosec // a test's
}

// An acknowledgement that is lost with its connection: the batch is there once, and the journal goes on.
func TestLostAcknowledgements(t *testing.T) {
	t.Parallel()
	c := shared(t)
	p := proxy(t, c.Node(0))
	o := service(t, cluster.Options{URL: p.Addr(), Node: "a", Shards: 1})
	j := take(t, open(t, o), 0)
	var want []string
	for i, large := range []string{"", string(noise(3 << 20)), ""} {
		write(t, j, "before", "and again")
		last := lastSequence(t, c, o)
		p.Hold(faultnet.ToClient)
		done := make(chan error, 1)
		lost := fmt.Sprint("lost ", i, large)
		go func() {
			_, err := j.Append(t.Context(), []byte(lost))
			done <- err
		}()
		eventually(t, "the batch is in the stream", func() bool { return lastSequence(t, c, o) > last })
		p.Cut()
		p.Release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		write(t, j, "after")
		want = append(want, "before", "and again", lost, "after")
	}
	wantContent(t, take(t, open(t, o), 0), want...)
}

// The server answers no more, while the connection stays.
func TestHeldAcknowledgement(t *testing.T) {
	t.Parallel()
	c := shared(t)
	p := proxy(t, c.Node(1))
	o := service(t, cluster.Options{URL: p.Addr(), Node: "a", Shards: 1})
	j := take(t, open(t, o), 0)
	p.Hold(faultnet.ToClient)
	release := time.AfterFunc(3*time.Second, p.Release) // a try has timed out by then
	defer release.Stop()
	write(t, j, "one", "two")
	wantContent(t, take(t, open(t, o), 0), "one", "two")
}

func lastSequence(t testing.TB, c *natstest.Cluster, o cluster.Options) uint64 {
	t.Helper()
	s, err := jetStream(t, c).Stream(t.Context(), "REPLYQ_"+o.Name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// An owner's append is under way, its message or its acknowledgement late or lost, while the other node fences and reads,
// and both go on in random order. Whatever an owner was told is kept is read by all later ones; and what one has read, all
// later ones read as well.
func TestStaleAppends(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := random(t)
	o := service(t, cluster.Options{Shards: 1})
	nodes := make([]*staleNode, 2)
	for i := range nodes {
		p := proxy(t, c.Node(i))
		o.URL, o.Node = p.Addr(), fmt.Sprint("node", i)
		nodes[i] = &staleNode{proxy: p, store: open(t, o)}
	}
	owner := nodes[0]
	owner.journal = take(t, owner.store, 0)
	var history []string
	outcomes := map[string]int{}
	for round := range *rounds {
		other := nodes[(slices.Index(nodes, owner)+1)%2]
		for i := range r.IntN(3) {
			b := fmt.Sprintf("%d sure %d", round, i)
			write(t, owner.journal, b)
			history = append(history, b)
		}
		b := fmt.Sprintf("%d doubtful%s", round, noise(r.IntN(2)*r.IntN(3<<20)))
		var got []string
		along := follow(other.store, 0)
		confirmed := owner.doubtful(t, r, b, func() {
			if r.IntN(2) == 0 { // it has read along, perhaps what is doubtful too
				along = readAlong(t, other.store)
			}
			other.journal, got = along.take(t, other.store, 0)
		})
		sees := len(got) > 0 && got[len(got)-1] == b
		if sees {
			history = append(history, b)
		}
		if !slices.Equal(history, got) {
			t.Fatalf("round %d (-want +got):\n%s", round, cmp.Diff(short(history), short(got)))
		}
		err := <-confirmed
		switch {
		case err == nil && !sees:
			t.Fatalf("round %d: the append was confirmed, but the next owner does not have it", round)
		case err != nil && !errors.Is(err, journal.ErrDeposed):
			t.Fatalf("round %d: %v", round, err)
		}
		outcomes[fmt.Sprintf("confirmed: %v, kept: %v", err == nil, sees)]++
		if _, err := owner.journal.Append(t.Context(), []byte("stale")); !errors.Is(err, journal.ErrDeposed) {
			t.Fatalf("round %d: an append of the former owner: %v, want ErrDeposed", round, err)
		}
		owner = other
	}
	t.Log(outcomes)
	wantContent(t, owner.journal, history...)
}

// readAlong follows the shard up to now. The connection may still be being made again that a round before has cut.
func readAlong(t *testing.T, s *cluster.Store) *along {
	t.Helper()
	var a *along
	eventually(t, "the log is read along", func() bool {
		a = follow(s, 0) // after an error a follower is of no use
		err := a.read(t)
		if err != nil && !errors.Is(err, nats.ErrReconnectBufExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return err == nil
	})
	return a
}

type staleNode struct {
	proxy   *faultnet.Proxy
	store   *cluster.Store
	journal journal.Journal
}

// doubtful appends a batch, while messages or acknowledgements are held, and the other node fences.
func (n *staleNode) doubtful(t *testing.T, r *rand.Rand, batch string, fence func()) <-chan error {
	t.Helper()
	confirmed := make(chan error, 1)
	hold, cut, before := r.IntN(3), r.IntN(2) == 0, time.Duration(r.IntN(20))*time.Millisecond
	if hold < 2 {
		n.proxy.Hold(faultnet.Direction(hold))
	}
	j := n.journal
	go func() {
		_, err := j.Append(t.Context(), []byte(batch))
		confirmed <- err
	}()
	wait(t.Context(), before)
	fence()
	if cut {
		n.proxy.Cut()
	}
	n.proxy.Release()
	return confirmed
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// short makes batches short enough to print.
func short(batches []string) []string {
	out := make([]string, 0, len(batches))
	for _, b := range batches {
		out = append(out, fmt.Sprintf("%.20s (%d bytes)", b, len(b)))
	}
	return out
}

// The stream is full: appends wait, and go on when there is room.
func TestFullStream(t *testing.T) {
	t.Parallel()
	c := shared(t)
	o := service(t, cluster.Options{URL: c.URL(), Shards: 1})
	j := take(t, open(t, o), 0)
	limit := func(bytes int64) {
		t.Helper()
		s, err := jetStream(t, c).Stream(t.Context(), "REPLYQ_"+o.Name)
		if err != nil {
			t.Fatal(err)
		}
		config := s.CachedInfo().Config
		config.MaxBytes = bytes
		if _, err := jetStream(t, c).UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	write(t, j, "before")
	limit(64 << 10)
	logged := make(logs, 100)
	o.Log = logged.logger()
	j = take(t, open(t, o), 0)
	done := make(chan error, 1)
	go func() {
		_, err := j.Append(t.Context(), noise(100<<10))
		done <- err
	}()
	logged.want(t, "raise its max_bytes")
	limit(-1)
	if err := <-done; err != nil {
		t.Errorf("the append, when there was room: %v", err)
	}
	write(t, j, "after")
}

// The stream is deleted, or sealed, under its owner: the journal ends, and says why.
func TestStreamTakenAway(t *testing.T) {
	t.Parallel()
	for want, away := range map[string]func(context.Context, jetstream.JetStream, string) error{
		"was deleted": func(ctx context.Context, js jetstream.JetStream, name string) error {
			return js.DeleteStream(ctx, name)
		},
		"was sealed": func(ctx context.Context, js jetstream.JetStream, name string) error {
			s, err := js.Stream(ctx, name)
			if err != nil {
				return err
			}
			config := s.CachedInfo().Config
			config.Sealed = true
			_, err = js.UpdateStream(ctx, config)
			return err
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c := shared(t)
			o := service(t, cluster.Options{URL: c.URL(), Shards: 1})
			j := take(t, open(t, o), 0)
			write(t, j, "one")
			if err := away(t.Context(), jetStream(t, c), "REPLYQ_"+o.Name); err != nil {
				t.Fatal(err)
			}
			_, err := j.Append(t.Context(), []byte("two"))
			wantError(t, err, want)
		})
	}
}
