package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
)

// Awaiting with a timeout only ends the waiting: the value that comes later is still there.
func TestStoryG(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		pipe := openPipe(t, s, "")
		early := s.play(t, l, "waiter", "--handle", pipe.receive, "--timeout", "0.5")
		waited := early.all(t)
		// The server ends the RPC 20 ms before its deadline. On a machine too busy for that grpc-go may reset the stream,
		// which grpc's C core, and so Python, reports as CANCELLED. Either way the waiting has ended, and nothing else has.
		if n := len(waited); n > 0 && waited[n-1].Code == "CANCELLED" {
			waited[n-1].Code, waited[n-1].Message = "DEADLINE_EXCEEDED", ""
		}
		tell(t, early.name, waited, "status DEADLINE_EXCEEDED")
		replier := s.play(t, l.next(), "replier", "--handle", pipe.send, "--payload", "canary late")
		tell(t, replier.name, replier.all(t), "outcome BUFFERED")
		for range 2 { // and it stays
			late := s.play(t, l, "waiter", "--handle", pipe.receive, "--timeout", "30")
			tell(t, late.name, late.all(t), "reply canary late", "end OK", "status OK")
		}
	})
}

// The same with a future in one process: the context of an Await ends the waiting, and no more.
func TestStoryGFuture(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.client(t)
	pipe, err := c.OpenPipe(t.Context(), client.PipeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	future := client.NewFuture[string](c, pipe.Receive)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if text, err := future.Await(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Await() = %q, %v, want a deadline", text, err)
	}
	if _, err := c.Reply(t.Context(), pipe.Send, answer("canary")); err != nil {
		t.Fatal(err)
	}
	if text, err := future.Await(t.Context()); text != canary || err != nil {
		t.Errorf("Await() = %q, %v, want the value", text, err)
	}
}

// The pipe's own deadline is another matter: it ends the pipe, for all, and is remembered for a while.
func TestStoryGDeadline(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		pipe, err := s.client(t).OpenPipe(t.Context(), client.PipeOptions{Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			waiter := s.play(t, l, "waiter", "--handle", pipe.Receive.Text())
			tell(t, waiter.name, waiter.all(t), "end EXPIRED", "status DEADLINE_EXCEEDED")
		}
		replier := s.play(t, l, "replier", "--handle", pipe.Send.Text(), "--payload", canary)
		replier.next(t).compare(t, replier.name, event{Event: "outcome", Outcome: "ENDED", Reason: "EXPIRED"})
	})
}
