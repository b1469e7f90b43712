package integration_test

import (
	"testing"

	"github.com/replyq/replyq/client"
)

// A consumer that knows nothing of the sender answers through the reply_to.
func TestStoryA(t *testing.T) {
	t.Parallel()
	inEachPair(t, func(t *testing.T, consumer, producer language) {
		s := startServer(t)
		worker := s.consumer(t, consumer, "reports", "echo")
		caller := s.play(t, producer, "producer", "--queue", "reports", "--payload", "canary ä", "--wait")
		tell(t, caller.name, caller.all(t), "receipt", "reply CANARY Ä", "end OK", "status OK")
		if d := worker.await(t, "delivery"); d.Payload != "canary ä" || d.Attempt != 1 || d.ReplyTo == "" {
			t.Errorf("delivery = %+v, want payload, attempt 1 and a reply_to", d)
		}
		worker.await(t, "outcome").compare(t, worker.name, event{Event: "outcome", Outcome: "DELIVERED", Sequence: 1})
	})
}

// The reply_to belongs to neither producer nor consumer: who waits is a third process, and comes later.
func TestStoryAThirdParty(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		pipe, err := s.client(t).OpenPipe(t.Context(), client.PipeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		worker := s.consumer(t, l, "reports", "echo")
		producer := s.play(t, l.next(), "producer",
			"--queue", "reports", "--payload", canary, "--reply-to", pipe.Send.Text())
		tell(t, producer.name, producer.all(t), "receipt")
		worker.await(t, "outcome").compare(t, worker.name, event{Event: "outcome", Outcome: "BUFFERED", Sequence: 1})
		waiter := s.play(t, l.next().next(), "waiter", "--handle", pipe.Receive.Text())
		tell(t, waiter.name, waiter.all(t), "reply CANARY", "end OK", "status OK")
	})
}
