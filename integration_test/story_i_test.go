package integration_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/replyq/replyq/client"
)

// A holder of the receive handle cancels: the waiter has its end, and the worker is told at once.
func TestStoryICancel(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		worker := s.consumer(t, l, "reports", "hold")
		caller := s.play(t, l.next(), "producer", "--queue", "reports", "--payload", canary, "--wait")
		receipt := caller.await(t, "receipt")
		d := worker.await(t, "delivery")

		began := time.Now()
		var future client.Future[client.Reply]
		if err := future.UnmarshalText([]byte(receipt.ReceiveHandle)); err != nil {
			t.Fatal(err)
		}
		if cancelled, _, err := s.client(t).Cancel(t.Context(), future.Handle(), "not needed"); !cancelled || err != nil {
			t.Fatalf("Cancel() = %v, %v", cancelled, err)
		}
		tell(t, caller.name, caller.all(t), "end CANCELLED", "status CANCELLED")
		checkGone(t, worker, d, l)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("word of the cancel took %v: it is not the grace of 10 s that should bring it", took)
		}
	})
}

// checkGone awaits the word that nobody waits for a delivery's answer. Package client shows no reason with it.
func checkGone(t *testing.T, worker *process, d event, l language) {
	t.Helper()
	want := event{Event: "waiter_gone", MessageID: d.MessageID, Reason: "CANCELLED"}
	if l == inGo {
		want.Reason = ""
	}
	worker.await(t, "waiter_gone").compare(t, worker.name, want)
}

// The waiter is cut: after its grace, and not before, the worker is told.
func TestStoryICut(t *testing.T) {
	t.Parallel()
	inEachPair(t, func(t *testing.T, consumer, producer language) {
		const grace = time.Second
		s := startServer(t)
		worker := s.consumer(t, consumer, "reports", "hold")
		caller := s.play(t, producer, "producer", "--queue", "reports", "--payload", canary, "--wait", "--grace", "1")
		d := worker.await(t, "delivery")
		caller.await(t, "receipt")

		cut := time.Now()
		caller.kill()
		checkGone(t, worker, d, consumer)
		if took := time.Since(cut); took < grace-50*time.Millisecond || took > grace+5*time.Second {
			t.Errorf("the worker was told after %v, want %v", took, grace)
		}
	})
}

// The waiter is cut while its message is queued: the message is withdrawn, and nobody works in vain.
func TestStoryICutQueued(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, l := range languages() {
		queue := "reports." + string(l)
		caller := s.play(t, l, "producer", "--queue", queue, "--payload", canary, "--wait", "--grace", "0.2")
		caller.await(t, "receipt")
		caller.kill()
		eventually(t, "the message is withdrawn", func() bool { return s.statistics(t, queue).Ready == 0 })
	}
}

// In Go it is the handler's context that ends, when the context of the call does.
func TestStoryIContext(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	worker := s.client(t)
	causes := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	worked := make(chan error, 1)
	go func() {
		worked <- worker.Work(ctx, client.WorkConfig{}, func(ctx context.Context, _ *client.Delivery) (*client.Answer, error) {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil, nil
		}, "reports")
	}()

	calling, hangUp := context.WithCancel(t.Context())
	call := s.client(t).Call(calling, "reports", client.Message{Payload: []byte(canary)})
	eventually(t, "the message is delivered", func() bool { return s.statistics(t, "reports").InFlight == 1 })
	began := time.Now()
	hangUp()
	if _, err := call.One(); !errors.Is(err, context.Canceled) {
		t.Errorf("One() = %v, want the context's error", err)
	}
	select {
	case cause := <-causes:
		if !errors.Is(cause, client.ErrWaiterGone) {
			t.Errorf("the handler's context ended with %v, want %v", cause, client.ErrWaiterGone)
		}
	case <-time.After(patience):
		t.Fatal("the handler's context does not end")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v: it is not the grace of 10 s that should end the context", took)
	}
	eventually(t, "the delivery is settled", func() bool { return s.statistics(t, "reports").InFlight == 0 })
	stop()
	if err := <-worked; err != nil {
		t.Errorf("Work() = %v", err)
	}
}

// A waiter that comes back within its grace gets everything: what it had, what came meanwhile, and what comes now.
func TestStoryIComesBack(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, l language) {
		s := startServer(t)
		consumer, err := s.client(t).Consume(t.Context(), client.ConsumeConfig{}, "reports")
		if err != nil {
			t.Fatal(err)
		}
		caller := s.play(t, l, "producer", "--queue", "reports", "--payload", canary, "--wait", "--grace", "60")
		receipt := caller.await(t, "receipt")
		d, err := consumer.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		say := func(text string, want client.ReplyStatus) {
			t.Helper()
			if got, err := d.ReplyMore(t.Context(), answer(text)); err != nil || got.Status != want {
				t.Fatalf("ReplyMore(%q) = %v, %v, want %v", text, got.Status, err, want)
			}
		}
		say("before", client.ReplyDelivered)
		if got := caller.await(t, "reply"); got.Payload != "before" {
			t.Errorf("reply = %q, want before", got.Payload)
		}
		caller.kill()
		s.awaitReaders(t, receipt.ReceiveHandle, 0)
		say("meanwhile", client.ReplyBuffered)
		back := s.play(t, l, "waiter", "--handle", receipt.ReceiveHandle)
		if got := back.await(t, "reply"); got.Payload != "before" {
			t.Errorf("reply = %q, want before", got.Payload)
		}
		if err := d.Context().Err(); err != nil {
			t.Errorf("the delivery's context has ended: %v", context.Cause(d.Context()))
		}
		say("after", client.ReplyDelivered)
		if _, err := d.Settle(t.Context(), client.Settlement{Replies: []client.SettleReply{{}}}); err != nil {
			t.Fatal(err)
		}
		tell(t, back.name, back.all(t), "reply meanwhile", "reply after", "end OK", "status OK")

		// And from a sequence on, for one who has kept count.
		again := s.play(t, l, "waiter", "--handle", receipt.ReceiveHandle, "--from", "3")
		tell(t, again.name, again.all(t), "reply after", "end OK", "status OK")
	})
}
