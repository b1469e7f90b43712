package integration_test

import (
	"encoding/json"
	"testing"

	"github.com/replyq/replyq/client"
)

// A handle nested in a message, or in its JSON payload, works where it arrives.
func TestStoryCMessageAndPayload(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		declared, hidden := openPipe(t, s, ""), openPipe(t, s, "")
		document, err := json.Marshal(map[string]string{"log": hidden.send})
		if err != nil {
			t.Fatal(err)
		}
		worker := s.consumer(t, l, "jobs", "notify")
		producer := s.play(t, l.next(), "producer", "--queue", "jobs", "--payload", string(document),
			"--handle", "audit="+declared.send, "--wait")
		tell(t, producer.name, producer.all(t), "receipt", "reply done", "end OK", "status OK")

		d := worker.await(t, "delivery")
		if d.Handles["audit"] != declared.send || len(d.EndedHandles) != 0 {
			t.Errorf("delivery has not the handle that was sent: %+v", d)
		}
		for name, pipe := range map[string]pipeTokens{"audit": declared, "log": hidden} {
			waiter := s.play(t, l.next().next(), "waiter", "--handle", pipe.receive)
			tell(t, waiter.name, waiter.all(t), "reply noted "+name, "end OK", "status OK")
		}
	})
}

// A send handle nested in a reply works where it arrives: who asked is asked back.
func TestStoryCReply(t *testing.T) {
	t.Parallel()
	inEachPair(t, func(t *testing.T, consumer, producer language) {
		s := startServer(t)
		worker := s.consumer(t, consumer, "jobs", "confirm")
		caller := s.play(t, producer, "producer", "--queue", "jobs", "--payload", canary, "--confirm", "confirm", "--wait")
		// Whether the consumer awaits already, or will in a moment, shows in the outcome.
		if got := caller.await(t, "outcome").Outcome; got != "DELIVERED" && got != "BUFFERED" {
			t.Errorf("outcome = %q", got)
		}
		tell(t, caller.name, caller.all(t), "end OK", "status OK")
		worker.await(t, "confirmed").compare(t, worker.name, event{Event: "confirmed", Payload: "confirmed"})
	})
}

// The handle's pipe has ended while it travelled: that refuses nothing, and the delivery says so.
func TestStoryCEndedHandle(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		c := s.client(t)
		pipe, err := c.OpenPipe(t.Context(), client.PipeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReplyEnd(t.Context(), pipe.Send); err != nil {
			t.Fatal(err)
		}
		producer := s.play(t, l.next(), "producer", "--queue", "jobs", "--payload", "{}", "--handle", "audit="+pipe.Send.Text())
		tell(t, producer.name, producer.all(t), "receipt")
		worker := s.consumer(t, l, "jobs", "hold")
		if d := worker.await(t, "delivery"); len(d.EndedHandles) != 1 || d.EndedHandles[0] != "audit" {
			t.Errorf("ended_handles = %q, want audit", d.EndedHandles)
		}
	})
}
