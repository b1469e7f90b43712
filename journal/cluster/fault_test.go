package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/replyq/replyq/internal/natstest"
	"github.com/replyq/replyq/journal/cluster"
)

// The stream's leader, or all nodes, end under appends: nothing that was confirmed is lost, nothing is there twice, and
// appends go on when they can.
func TestAppendsThroughLostNodes(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*natstest.Cluster, chan<- struct{}){
		"leader killed": func(c *natstest.Cluster, done chan<- struct{}) {
			i := c.Leader("REPLYQ_main")
			c.Kill(i)
			close(done)
		},
		"leader paused": func(c *natstest.Cluster, done chan<- struct{}) {
			c.Pause(c.Leader("REPLYQ_main"))
			close(done)
		},
		"all killed and back": func(c *natstest.Cluster, done chan<- struct{}) {
			for i := range c.Nodes() {
				c.Kill(i)
			}
			for i := range c.Nodes() {
				c.Restart(i)
			}
			close(done)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := natstest.Start(t, natstest.Options{Nodes: 3, Sync: true})
			o := cluster.Options{URL: c.URL(), Node: "a", Shards: 1}
			j := take(t, open(t, o), 0)
			var want []string
			appendOne := func() {
				want = append(want, fmt.Sprint("batch ", len(want)))
				write(t, j, want[len(want)-1])
			}
			for range 50 {
				appendOne()
			}
			done := make(chan struct{})
			go fault(c, done)
			for running := true; running; appendOne() {
				select {
				case <-done:
					running = false
				default:
				}
			}
			for range 50 {
				appendOne()
			}
			wantContent(t, take(t, open(t, o), 0), want...)
		})
	}
}

// While nobody leads the stream its leader is asked for, but a batch is not sent again and again. It is kept when there is one.
func TestNothingIsSentToNobody(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{Nodes: 3})
	o := cluster.Options{URL: c.URL(), Node: "a", Shards: 1}
	s := open(t, o)
	j := take(t, s, 0)
	write(t, j, "before")
	c.AwaitCurrent("REPLYQ_main")
	leader := c.Leader("REPLYQ_main")
	for i := range c.Nodes() {
		if i == leader || i == (leader+1)%c.Nodes() {
			c.Kill(i)
		}
	}
	kept := make(chan error, 1)
	sent := s.Figures().Messages
	go func() {
		_, err := j.Append(t.Context(), []byte("after"))
		kept <- err
	}()
	select {
	case err := <-kept:
		t.Fatalf("one of three nodes has kept a batch: %v", err)
	case <-time.After(8 * time.Second): // time for four tries
	}
	if n := s.Figures().Messages - sent; n > 1 {
		t.Errorf("a batch was sent %d times while nobody led, want once at most", n)
	}
	for i := range c.Nodes() {
		c.Restart(i)
	}
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	wantContent(t, take(t, open(t, o), 0), "before", "after")
}
