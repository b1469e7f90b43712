package integration_test

import "testing"

// A reply carries a future: who got the reply awaits it, and so does a third process; a fourth one answers.
func TestStoryD(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		worker := s.consumer(t, l, "reports", "promise")
		caller := s.play(t, l.next(), "producer", "--queue", "reports", "--payload", canary, "--follow", "result", "--wait")
		reply := caller.await(t, "reply")
		if reply.Payload != "later" || reply.Handles["result"] == "" {
			t.Fatalf("reply = %+v, want a future", reply)
		}
		caller.await(t, "status") // now it awaits the future

		third := s.play(t, l.next().next(), "waiter", "--handle", reply.Handles["result"])
		promised := worker.await(t, "promised")
		s.awaitReaders(t, reply.Handles["result"], 2)
		replier := s.play(t, l, "replier", "--handle", promised.SendHandle, "--payload", "canary at last")
		tell(t, replier.name, replier.all(t), "outcome DELIVERED")

		want := []string{"reply canary at last", "end OK", "status OK"}
		tell(t, caller.name, caller.all(t), want...)
		tell(t, third.name, third.all(t), want...)
	})
}
