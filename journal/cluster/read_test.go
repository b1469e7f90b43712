package cluster_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
)

// Reading goes on behind what is trimmed meanwhile: of what is not trimmed, nothing is missing.
func TestReadBesideTrim(t *testing.T) {
	t.Parallel()
	o := service(t, cluster.Options{URL: shared(t).URL(), Shards: 2})
	j := take(t, open(t, o), 0)
	large := string(noise(2 << 20)) // more than the reader has in hand
	for i := range 30 {
		write(t, j, fmt.Sprint(i, large))
	}
	const trimmed = 25
	var got []journal.Position
	for r, err := range j.Read(t.Context(), 0) {
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		if got = append(got, r.Position); len(got) == 1 {
			if err := j.Trim(t.Context(), trimmed); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept := 0
	for _, p := range got {
		if p >= trimmed {
			kept++
		}
	}
	if kept != 30-trimmed+1 {
		t.Errorf("read the batches %v, want all from %d to 30", got, trimmed)
	}
}

// An owner that was deposed reads, while the next one trims: what it yields is the beginning of the log, and then it learns
// that it is deposed, or it has all.
func TestReadOfDeposedOwner(t *testing.T) {
	t.Parallel()
	o := service(t, cluster.Options{URL: shared(t).URL(), Shards: 1})
	j := take(t, open(t, o), 0)
	large := string(noise(2 << 20))
	for i := range 20 {
		write(t, j, fmt.Sprint(i, large))
	}
	var next journal.Position
	for r, err := range j.Read(t.Context(), 0) {
		if err != nil {
			if !errors.Is(err, journal.ErrDeposed) {
				t.Errorf("after batch %d: %v, want ErrDeposed", next, err)
			}
			return
		}
		if next++; r.Position != next {
			t.Fatalf("batch %d comes where %d has to", r.Position, next)
		}
		if next == 1 {
			b := take(t, open(t, o), 0)
			write(t, b, "another's")
			if err := b.Trim(t.Context(), 21); err != nil {
				t.Fatal(err)
			}
		}
	}
	if next != 20 {
		t.Errorf("reading ended without an error after %d of 20 batches", next)
	}
}

// A journal that is closed while it is read yields no more, whether there is more at once, or the server does not answer;
// nor does one whose owner was deposed before.
func TestCloseEndsReading(t *testing.T) {
	t.Parallel()
	c := shared(t)
	p := proxy(t, c.Node(0))
	o := service(t, cluster.Options{URL: p.Addr(), Shards: 1})
	j := take(t, open(t, o), 0)
	large := string(noise(2 << 20)) // more than the reader has in hand
	for i := range 20 {
		write(t, j, fmt.Sprint(i, large))
	}
	// ended reads, and closes in its own time after the first batch.
	ended := func(t *testing.T, j journal.Journal, first func()) {
		t.Helper()
		batches := 0
		for r, err := range j.Read(t.Context(), 0) {
			if err != nil {
				if !errors.Is(err, journal.ErrClosed) {
					t.Errorf("after %d batches: %v, want ErrClosed", batches, err)
				}
				return
			}
			if batches++; batches == 1 {
				first()
			}
			if r.Position == 20 {
				t.Errorf("all was read of a closed journal")
			}
		}
	}
	closing := func() { _ = j.Close() }
	ended(t, j, closing)
	ended(t, j, func() { t.Error("a closed journal yields a batch") })

	t.Run("no answer", func(t *testing.T) {
		j = take(t, open(t, o), 0)
		closed := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			ended(t, j, func() {
				p.Hold(faultnet.ToClient)
				close(closed)
			})
		}()
		<-closed
		closing()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("reading goes on until the server answers")
		}
		p.Release()
		<-done
	})

	t.Run("deposed", func(t *testing.T) {
		j = take(t, open(t, o), 0)
		take(t, open(t, o), 0)
		if _, err := j.Append(t.Context(), []byte("stale")); !errors.Is(err, journal.ErrDeposed) {
			t.Fatalf("Append: %v, want ErrDeposed", err)
		}
		ended(t, j, closing)
	})
}

// Figures count what was appended.
func TestFigures(t *testing.T) {
	t.Parallel()
	o := service(t, cluster.Options{URL: shared(t).URL(), Shards: 1})
	s := open(t, o)
	j := take(t, s, 0)
	write(t, j, "five!", string(noise(3<<20)))
	f := s.Figures()
	if f.Batches != 2 || f.Bytes != 5+3<<20 || f.Size.Quantile(0.5) != 7 || f.Latency.Count() != 2 || f.Latency.Sum == 0 {
		t.Errorf("Figures: %+v", f)
	}
	const messages = 1 + 1 + 4 // the fence, the small batch, the parts of the large one
	if f.Messages != messages || f.Sent <= f.Bytes || f.Sent > f.Bytes+messages*1000 {
		t.Errorf("Figures: %d messages of %d bytes were sent, want %d of a little more than %d", f.Messages, f.Sent, messages, f.Bytes)
	}
	space, err := s.Space(t.Context())
	if err != nil || space.Messages != messages || space.Bytes < f.Sent || space.Limit != 0 {
		t.Errorf("Space: %+v, %v; want %d messages, at least %d bytes and no limit", space, err, messages, f.Sent)
	}
	s.Conn().Close()
	if _, err := j.Append(t.Context(), []byte("in vain")); err == nil {
		t.Error("Append succeeds without a connection")
	}
	if after := s.Figures(); after != f {
		t.Errorf("Figures: %+v without a connection, want %+v as before", after, f)
	}
}
