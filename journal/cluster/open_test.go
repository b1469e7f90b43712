package cluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{})
	base := cluster.Options{URL: c.URL(), Replicas: 1}
	first := open(t, base)
	small := natstest.Start(t, natstest.Options{MaxPayload: "512KB"})
	for name, test := range map[string]struct {
		change func(*cluster.Options)
		want   string
	}{
		"small messages": {func(o *cluster.Options) { o.URL = small.URL() }, "max_payload"},
		"other shards":   {func(o *cluster.Options) { o.Shards = 4 }, "number of shards 8"},
		"more replicas":  {func(o *cluster.Options) { o.Replicas = 3 }, "replicas 1"},
		"out of reach":   {func(o *cluster.Options) { o.Replicas, o.Name = 3, "new" }, "3 replicas"},
		"bad name":       {func(o *cluster.Options) { o.Name = "a.b" }, "name"},
		"other number":   {func(o *cluster.Options) { o.Number = first.Number() + 1 }, "store"},
		"nobody there":   {func(o *cluster.Options) { o.URL = "nats://127.0.0.1:1" }, "connect"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			o := base
			test.change(&o)
			s, err := cluster.Open(ctx, o)
			if err == nil {
				_ = s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open: %v, want an error with %q", err, test.want)
			}
		})
	}
}

// A stream gets the number that is asked for, and every later store has it.
func TestNumber(t *testing.T) {
	c := natstest.Start(t, natstest.Options{})
	o := cluster.Options{URL: c.URL(), Replicas: 1, Number: 4711}
	for range 2 {
		if got := open(t, o).Number(); got != 4711 {
			t.Errorf("Number() = %d, want 4711", got)
		}
		o.Number = 0
	}
}

// A stream that was made before batches were compressed gets none that are, and is read; a later one than this build knows is
// refused.
func TestPlainStream(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{})
	o := cluster.Options{URL: c.URL(), Replicas: 1, Shards: 1}
	zeros := string(make([]byte, 100<<10))
	sent := func() uint64 {
		t.Helper()
		s := open(t, o)
		j := take(t, s, 0)
		before := s.Figures().Sent
		write(t, j, zeros)
		return s.Figures().Sent - before
	}
	if n := sent(); n > 10<<10 {
		t.Errorf("a batch of 100 KiB of zeros takes %d bytes, want it compressed", n)
	}
	format := func(f string) {
		t.Helper()
		s, err := jetStream(t, c).Stream(t.Context(), "REPLYQ_main")
		if err != nil {
			t.Fatal(err)
		}
		config := s.CachedInfo().Config
		config.Metadata["replyq.format"] = f
		if _, err := jetStream(t, c).UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	format("1")
	if n := sent(); n < 100<<10 {
		t.Errorf("a batch of 100 KiB takes %d bytes in a stream whose readers know no compression", n)
	}
	wantContent(t, take(t, open(t, o), 0), zeros, zeros)
	format("3")
	_, err := cluster.Open(t.Context(), o)
	wantError(t, err, "format 3")
}

// A batch of several parts is read whole, whichever of them are compressed, by a new owner and by who follows.
func TestPackedParts(t *testing.T) {
	t.Parallel()
	o := service(t, cluster.Options{URL: shared(t).URL(), Shards: 1})
	zeros, some := string(make([]byte, 3<<20)), string(noise(5<<18))
	batches := []string{zeros, zeros[:2<<20] + some, "short", some + zeros, some + zeros[:1<<20] + some, zeros[:64<<10]}
	s := open(t, o)
	a := follow(open(t, o), 0)
	j := take(t, s, 0)
	size := 0
	for _, b := range batches {
		write(t, j, b)
		size += len(b)
	}
	if f := s.Figures(); f.Bytes != uint64(size) || f.Sent > f.Bytes/2 {
		t.Errorf("%d bytes were sent of batches of %d, want at most half of %d", f.Sent, f.Bytes, size)
	}
	a.want(t, batches...)
	wantContent(t, take(t, open(t, o), 0), batches...)
}
