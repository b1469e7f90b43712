package integration_test

import (
	"testing"
	"time"

	"github.com/replyq/replyq/client"
)

// The last carrier is acked without a reply: the waiter learns at once that nobody can answer any more.
func TestStoryJ(t *testing.T) {
	t.Parallel()
	inEachPair(t, func(t *testing.T, consumer, producer language) {
		s := startServer(t)
		caller := s.play(t, producer, "producer", "--queue", "reports", "--payload", canary, "--wait")
		caller.await(t, "receipt")
		worker := s.consumer(t, consumer, "reports", "ack")
		worker.await(t, "settled")
		acked := time.Now()
		tell(t, caller.name, caller.all(t), "end BROKEN", "status ABORTED")
		if took := time.Since(acked); took > 5*time.Second {
			t.Errorf("the waiter learned it %v after the ack, want at once", took)
		}
	})
}

// Somebody outside has a copy of the send handle: then an ack proves nothing, and the pipe stays open.
func TestStoryJCopyOutside(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	pipe := openPipe(t, s, "") // OpenPipe gave it out
	worker := s.consumer(t, inGo, "reports", "ack")
	producer := s.play(t, inGo, "producer", "--queue", "reports", "--payload", canary, "--reply-to", pipe.send)
	tell(t, producer.name, producer.all(t), "receipt")
	worker.await(t, "settled")
	eventually(t, "the ack is done", func() bool { return s.statistics(t, "reports").InFlight == 0 })
	replier := s.play(t, inGo, "replier", "--handle", pipe.send, "--payload", canary)
	tell(t, replier.name, replier.all(t), "outcome BUFFERED")
}

// It was passed on: the ack of the first message breaks nothing, that of the second does.
func TestStoryJForwarded(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	caller := s.play(t, inGo, "producer", "--queue", "front", "--payload", canary, "--wait")
	front := s.consumer(t, inGo, "front", "forward", "--to", "back")
	front.await(t, "settled")
	c := s.client(t)
	eventually(t, "the message is in the second queue", func() bool { return s.statistics(t, "back").Ready == 1 })
	consumer, err := c.Consume(t.Context(), client.ConsumeConfig{}, "back")
	if err != nil {
		t.Fatal(err)
	}
	d, err := consumer.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if caller.over() {
		t.Error("the caller has its end while a carrier is left")
	}
	if err := d.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	tell(t, caller.name, caller.all(t), "receipt", "end BROKEN", "status ABORTED")
}
