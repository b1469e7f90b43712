package integration_test

import "testing"

// An actor answers with another actor's future, or passes the message on: the waiter just gets the value.
func TestStoryE(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"splice", "forward"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, l language) {
				s := startServer(t)
				s.consumer(t, l, "front", how, "--to", "back")
				caller := s.play(t, l.next(), "producer", "--queue", "front", "--payload", canary, "--wait")
				caller.await(t, "receipt")
				s.consumer(t, l.next().next(), "back", "echo") // the answer is not there before the future is passed on
				reply := caller.await(t, "reply")
				reply.MessageID = ""
				reply.compare(t, caller.name, event{Event: "reply", Payload: "CANARY", Sequence: 1, Attempt: 1})
				tell(t, caller.name, caller.all(t), "end OK", "status OK")
			})
		})
	}
}

// The spliced pipe ends as the inner one does, with its error.
func TestStoryEError(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		s.consumer(t, l, "front", "splice", "--to", "back")
		s.consumer(t, l.next(), "back", "fail")
		caller := s.play(t, l.next().next(), "producer", "--queue", "front", "--payload", canary, "--wait")
		end := caller.await(t, "end")
		if end.Reason != "FAILED" || end.Error == nil || end.Error.Reason != "NO_SUCH_REPORT" {
			t.Errorf("end = %+v, want the inner actor's error", end)
		}
	})
}
