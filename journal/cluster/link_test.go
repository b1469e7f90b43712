package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/faultnet"
	"github.com/replyq/replyq/internal/natstest"
)

// TestLostConnectionEndsPublish: a publish whose connection is lost waits no longer for its answer, which will never come.
// The batch is sent again, and is kept once.
func TestLostConnectionEndsPublish(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := faultnet.Listen(natstest.Shared(t).Node(0).Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s, err := Open(ctx, Options{URL: "nats://" + p.Addr(), Name: "link", Node: "a", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		away, leave := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer leave()
		for _, err := range []error{s.js.DeleteStream(away, s.streamName()), s.js.DeleteKeyValue(away, s.bucket.Bucket()), s.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	j, err := s.Take(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Figures().Messages
	p.Hold(faultnet.ToClient)
	kept := make(chan error, 1)
	go func() {
		_, err := j.Append(ctx, []byte("a batch"))
		kept <- err
	}()
	for under := 0; under == 0; {
		s.link.mu.Lock()
		under = len(s.link.waiting)
		s.link.mu.Unlock()
		if ctx.Err() != nil {
			t.Fatal("nothing is known of the publish that is under way")
		}
		time.Sleep(time.Millisecond)
	}
	other, end := context.WithCancel(ctx)
	defer end()
	s.link.begin(nil, end)
	p.Cut()
	p.Release()
	<-other.Done()
	if ctx.Err() != nil || !s.link.end(nil) {
		t.Error("who waits over a connection is not told that it was lost")
	}
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	if n := s.Figures().Messages - before; n > 2 {
		t.Errorf("the batch was sent %d times, want at most twice", n)
	}
	var got []string
	for r, err := range j.Read(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.Batch))
	}
	if len(got) != 1 || got[0] != "a batch" {
		t.Errorf("the log has %q, want one batch", got)
	}
	if len(s.link.waiting) != 0 {
		t.Errorf("%d publishes are said to be under way when there is none", len(s.link.waiting))
	}
}
