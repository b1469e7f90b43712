package integration_test

import "testing"

// A worker is killed in the middle of its work: the message goes to the next one, as attempt 2, and the waiter is served.
func TestStoryH(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		victim := s.consumer(t, l, "reports", "hold")
		caller := s.play(t, l.next(), "producer", "--queue", "reports", "--payload", canary, "--wait")
		first := victim.await(t, "delivery")
		victim.kill()

		heir := s.consumer(t, l.next().next(), "reports", "echo")
		second := heir.await(t, "delivery")
		if first.Attempt != 1 || second.Attempt != 2 || first.MessageID != second.MessageID {
			t.Errorf("deliveries: %+v, then %+v; want the same message, attempts 1 and 2", first, second)
		}
		caller.await(t, "receipt")
		caller.next(t).compare(t, caller.name, event{Event: "reply", Payload: "CANARY", Sequence: 1, Attempt: 2})
		tell(t, caller.name, caller.all(t), "end OK", "status OK")
	})
}

// It had streamed half of its answer: the waiter sees by the attempt where the next one begins.
func TestStoryHHalfStreamed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, l := range languages() {
		queue := "reports." + string(l)
		victim := s.consumer(t, l, queue, "half")
		caller := s.play(t, l, "producer", "--queue", queue, "--payload", canary, "--wait")
		victim.await(t, "outcome")
		victim.kill()
		s.consumer(t, l, queue, "stream")
		caller.await(t, "receipt")
		want := []event{
			{Event: "reply", Payload: "half", Sequence: 1, Attempt: 1},
			{Event: "reply", Payload: "part 1", Sequence: 2, Attempt: 2},
			{Event: "reply", Payload: "part 2", Sequence: 3, Attempt: 2},
			{Event: "reply", Payload: "part 3", Sequence: 4, Attempt: 2},
			{Event: "end", Reason: "OK", Sequence: 4},
		}
		for _, w := range want {
			caller.next(t).compare(t, caller.name, w)
		}
	}
}
