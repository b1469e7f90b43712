package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

func TestHello(t *testing.T) {
	var first []byte
	withFake(t, func(t *testing.T, c *Client) {
		if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
			t.Error(err)
		}
	}, func(s *fakeSession) error {
		first = s.hello.GetSessionId()
		if s.hello.GetProtocolVersion() != 1 || s.hello.GetClientName() == "" || s.hello.GetCreditBytes() != sessionCredit {
			t.Errorf("hello: got %v", s.hello)
		}
		return status.Error(codes.Unavailable, "not yet")
	}, func(s *fakeSession) error {
		if len(first) != 16 || !slices.Equal(s.hello.GetSessionId(), first) {
			t.Errorf("session id: got %x, then %x", first, s.hello.GetSessionId())
		}
		s.greet("1")
		s.results(enqueued(s.op(), "m"))
		return s.drain()
	})
}

// Unanswered operations are sent again with their ids in their order; answered ones are not.
func TestP24UnansweredAreSentAgain(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				r, err := c.Enqueue(t.Context(), fmt.Sprint("q", i), Message{Payload: []byte("p")})
				if err != nil || r.MessageID != fmt.Sprint("m-q", i) {
					t.Errorf("Enqueue(q%d) = %+v, %v", i, r, err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
	}, func(s *fakeSession) error {
		s.greet("1")
		var ops []*queuepb.Operation
		for range 5 {
			ops = append(ops, s.op())
		}
		s.results(enqueued(ops[0], "m-q0"), enqueued(ops[3], "m-q3"))
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error {
		s.greet("1")
		for _, id := range []uint64{2, 3, 5} {
			op := s.op()
			if op.GetId() != id || op.GetEnqueue().GetQueue() != fmt.Sprint("q", id-1) {
				t.Errorf("sent again: got %v, want id %d", op, id)
			}
			if s.answeredBelow != 2 {
				t.Errorf("answered_below: got %d, want 2", s.answeredBelow)
			}
			s.results(enqueued(op, "m-"+op.GetEnqueue().GetQueue()))
		}
		return s.drain()
	})
}

// A call goes on with the reply after the last that came, whatever was sent twice.
func TestCallGoesOn(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		var got []string
		for r, err := range c.Call(t.Context(), "q", Message{}).Replies() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(r.Payload))
		}
		if !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("Replies() = %q", got)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		s.results(receipt(op, "handle"), callReply(op, 1, "a"), callReply(op, 2, "b"))
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		if r := op.GetReceive(); r.GetHandle().GetToken() != "handle" || r.GetFromSequence() != 3 || op.GetId() != 2 {
			t.Errorf("got %v, want a Receive from 3", op)
		}
		s.results(attached(op), received(op, 2, "b"), received(op, 3, "c"), received(op, 4, "d"),
			receiveEnd(op, queuepb.EndReason_END_REASON_OK))
		return s.drain()
	})
}

func TestServerLostItsMemory(t *testing.T) {
	lease, send, receive := testHandle(t, handles.Lease, 1), testHandle(t, handles.Send, 2), testHandle(t, handles.Receive, 3)
	withFake(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		call := c.Call(ctx, "answered", Message{})
		if _, err := call.Receipt(); err == nil {
			t.Error("the fake's handle should not parse")
		}
		s, err := c.Consume(ctx, ConsumeConfig{}, "jobs")
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if r, err := c.Enqueue(ctx, "unanswered", Message{}); err != nil || r.MessageID != "new" {
				t.Errorf("Enqueue() = %+v, %v", r, err)
			}
		})
		wg.Go(func() {
			if o, err := c.Reply(ctx, send, Answer{}); err != nil || o.Status != ReplyEnded || o.Reason != ErrLost {
				t.Errorf("bare Reply() = %+v, %v", o, err)
			}
		})
		wg.Go(func() {
			if _, err := c.Reply(ctx, send, Answer{}, WithLease(lease)); !errors.Is(err, ReasonLeaseUnknown) {
				t.Errorf("Reply() with a lease: %v", err)
			}
		})
		wg.Go(func() {
			if err := d.Ack(ctx); !errors.Is(err, ReasonLeaseUnknown) {
				t.Errorf("Ack() = %v", err)
			}
		})
		wg.Go(func() {
			if ended, reason, err := c.Cancel(ctx, receive, ""); err != nil || ended || reason != ErrLost {
				t.Errorf("Cancel() = %v, %v, %v", ended, reason, err)
			}
		})
		wg.Go(func() {
			if _, err := NewFuture[string](c, receive).Await(ctx); !errors.Is(err, ErrLost) {
				t.Errorf("Await() = %v", err)
			}
		})
		if _, err := call.One(); !errors.Is(err, ErrLost) || status.Code(err) != codes.Aborted {
			t.Errorf("One() = %v", err)
		}
		wg.Wait()
		if cause := context.Cause(d.Context()); !errors.Is(cause, ErrLeaseLost) {
			t.Errorf("cause of the delivery's context: %v", cause)
		}
		if d, err := s.Next(ctx); err != nil || d.MessageID != "second" {
			t.Errorf("Next() = %+v, %v", d, err)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		s.results(receipt(s.op(), "x"))
		op := s.op()
		s.results(started(op), delivered(op, &queuepb.Delivery{
			MessageId: "first", Attempt: 1, Lease: &queuepb.Handle{Token: "lease"}}))
		for range 6 {
			s.op()
		}
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error {
		s.greet("2")
		for range 2 {
			switch op := s.op(); {
			case op.GetConsume() != nil:
				if n := len(op.GetConsume().GetHeldLeases()); n != 0 {
					t.Errorf("came back with %d leases", n)
				}
				s.results(started(op), delivered(op, &queuepb.Delivery{
					MessageId: "second", Attempt: 1, Lease: &queuepb.Handle{Token: "lease"}}))
			case op.GetEnqueue() != nil:
				if op.GetId() < 9 {
					t.Errorf("sent again as %d, want a new id", op.GetId())
				}
				s.results(enqueued(op, "new"))
			default:
				t.Errorf("sent again: %v", op)
			}
		}
		return s.drain()
	})
}

// What the server may have forgotten is not sent again, unless that does no harm.
func TestP24OutcomeForgotten(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Enqueue(t.Context(), "q", Message{})
			var e *Error
			if !errors.Is(err, ErrOutcomeUnknown) || !errors.As(err, &e) || e.Outcome != OutcomeUnknown {
				t.Errorf("Enqueue() = %v", err)
			}
		})
		wg.Go(func() {
			if _, err := c.Enqueue(t.Context(), "q", Message{}, WithIdempotencyKey("k")); err != nil {
				t.Errorf("Enqueue() with a key = %v", err)
			}
		})
		wg.Wait()
	}, func(s *fakeSession) error {
		s.greet("1")
		s.op()
		s.op()
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error {
		time.Sleep(9 * time.Second)
		if time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) < 70*time.Second { // where bubbles begin
			return status.Error(codes.Unavailable, "still away")
		}
		s.greet("1")
		op := s.op()
		if op.GetEnqueue().GetIdempotencyKey() != "k" {
			t.Errorf("sent again: %v", op)
		}
		s.results(enqueued(op, "m"))
		return s.drain()
	})
}

// A settlement is sent again however long that took. If the lease is not known any more then, it may have been this very
// settlement that ended it.
func TestSettlementForgotten(t *testing.T) {
	for _, away := range []time.Duration{0, 70 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			var cut time.Time
			withFake(t, func(t *testing.T, c *Client) {
				s, err := c.Consume(t.Context(), ConsumeConfig{}, "jobs")
				if err != nil {
					t.Fatal(err)
				}
				d, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				want := OutcomeNotApplied
				if away > 0 {
					want = OutcomeUnknown
				}
				var e *Error
				if err := d.Ack(t.Context()); !errors.Is(err, ReasonLeaseStale) || !errors.As(err, &e) || e.Outcome != want {
					t.Errorf("Ack() = %v, outcome %v, want %v", err, e.Outcome, want)
				}
			}, func(s *fakeSession) error {
				s.greet("1")
				op := s.op()
				s.results(started(op), delivered(op, &queuepb.Delivery{MessageId: "m", Attempt: 1, Lease: &queuepb.Handle{Token: "lease"}}))
				s.op()
				cut = time.Now()
				return status.Error(codes.Unavailable, "cut")
			}, func(s *fakeSession) error {
				if time.Since(cut) < away {
					time.Sleep(9 * time.Second)
					return status.Error(codes.Unavailable, "still away")
				}
				s.greet("1")
				for op := s.op(); op != nil; op = s.op() {
					if op.GetSettle() != nil {
						s.results(refusal(op, &queuepb.Error{Code: int32(codes.FailedPrecondition), Reason: "LEASE_STALE",
							Outcome: queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED}))
					}
				}
				return nil
			})
		})
	}
}

// What only somebody else can mend fails what waits, instead of being tried for ever.
func TestCredentialsRefused(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		if _, err := c.Enqueue(t.Context(), "q", Message{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("Enqueue() = %v", err)
		}
		if _, err := c.Call(t.Context(), "q", Message{}).One(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("One() = %v", err)
		}
		if _, err := c.Consume(t.Context(), ConsumeConfig{}, "q"); status.Code(err) != codes.Unauthenticated {
			t.Errorf("Consume() = %v", err)
		}
	}, func(*fakeSession) error { return status.Error(codes.Unauthenticated, "who are you?") })
}

// An operation that offends the server is not sent for ever.
func TestOffence(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		if _, err := c.Enqueue(t.Context(), "bad", Message{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("Enqueue() = %v", err)
		}
		if _, err := c.Enqueue(t.Context(), "good", Message{}); err != nil {
			t.Error(err)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		s.op()
		return status.Error(codes.InvalidArgument, "malformed")
	}, func(s *fakeSession) error {
		s.greet("1")
		s.results(enqueued(s.op(), "m"))
		return s.drain()
	})
}

// A client that has nothing under way leaves a server that goes away; one that waits for replies stays, if the server
// keeps no journal.
func TestGoingAway(t *testing.T) {
	for _, test := range []struct {
		name       string
		durability queuepb.Durability
		stays      bool
	}{
		{"memory", queuepb.Durability_DURABILITY_MEMORY, true},
		{"disk", queuepb.Durability_DURABILITY_DISK, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			withFake(t, func(t *testing.T, c *Client) {
				if r, err := c.Call(t.Context(), "q", Message{}).One(); err != nil || string(r.Payload) != "x" {
					t.Errorf("One() = %q, %v", r.Payload, err)
				}
				if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
					t.Error(err)
				}
			}, func(s *fakeSession) error {
				s.greet("1", func(i *queuepb.GetServerInfoResponse) { i.Durability = test.durability })
				op := s.op()
				s.results(receipt(op, "h"))
				s.send(&queuepb.SessionResponse{GoingAway: &queuepb.GoingAway{Message: "bye"}})
				if test.stays {
					time.Sleep(time.Second)
					s.results(callReply(op, 1, "x"), callEnd(op))
				}
				start := time.Now()
				if op := s.op(); op != nil || time.Since(start) > time.Second {
					t.Errorf("a server that goes away got %v", op)
				}
				return nil
			}, func(s *fakeSession) error {
				s.greet("1")
				for op := s.op(); op != nil; op = s.op() {
					switch {
					case op.GetReceive() != nil && !test.stays:
						s.results(attached(op), received(op, 1, "x"), receiveEnd(op, queuepb.EndReason_END_REASON_OK))
					case op.GetEnqueue() != nil:
						s.results(enqueued(op, "m"))
					default:
						t.Errorf("the next server got %v", op)
					}
				}
				return nil
			})
		})
	}
}

func settleDone(op *queuepb.Operation) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_Settle{Settle: &queuepb.SettleResponse{}}}
}

// A consumer comes back with the leases it holds, and learns which it has lost.
func TestConsumerComesBack(t *testing.T) {
	first := func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		s.results(started(op),
			delivered(op, &queuepb.Delivery{MessageId: "kept", Attempt: 1, Lease: &queuepb.Handle{Token: "lease-kept"}}),
			delivered(op, &queuepb.Delivery{MessageId: "lost", Attempt: 1, Lease: &queuepb.Handle{Token: "lease-lost"}}))
		time.Sleep(time.Second)
		return status.Error(codes.Unavailable, "cut")
	}
	test := func(t *testing.T, c *Client) {
		s, err := c.Consume(t.Context(), ConsumeConfig{MaxInFlight: 2, ConsumerID: "me"}, "q")
		if err != nil {
			t.Fatal(err)
		}
		a, _ := s.Next(t.Context())
		b, _ := s.Next(t.Context())
		<-b.Context().Done()
		if cause := context.Cause(b.Context()); !errors.Is(cause, ErrLeaseLost) {
			t.Errorf("cause: %v", cause)
		}
		synctest.Wait()
		if err := a.Context().Err(); err != nil {
			t.Errorf("the other delivery is not held any more: %v", err)
		}
		if d, err := s.Next(t.Context()); err != nil || d.MessageID != "new" {
			t.Errorf("Next() = %+v, %v", d, err)
		}
	}
	withFake(t, test, first, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		if r := op.GetConsume(); r.GetConsumerId() != "me" || len(r.GetHeldLeases()) != 2 {
			t.Errorf("came back with %v", r)
		}
		s.results(started(op))
		extend := s.op()
		response := new(queuepb.ExtendLeasesResponse)
		for _, lease := range extend.GetExtendLeases().GetLeases() {
			r := new(queuepb.ExtendLeaseResult)
			if lease.GetToken() == "lease-lost" {
				r.Error = &queuepb.Error{Code: int32(codes.FailedPrecondition), Reason: "LEASE_STALE"}
			}
			response.Results = append(response.Results, r)
		}
		s.results(&queuepb.Result{Id: extend.GetId(), Done: true, Response: &queuepb.Result_ExtendLeases{ExtendLeases: response}},
			delivered(op, &queuepb.Delivery{MessageId: "new", Attempt: 1, Lease: &queuepb.Handle{Token: "l"}}))
		return s.drain()
	})
}

// One session's calls are enough to keep a caller's context from being watched by anybody but itself: see link_young.go.
func TestContextOfAnUnattendedCall(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		c.Call(ctx, "q", Message{})
		time.Sleep(time.Second)
		cancel()
		time.Sleep(time.Second)
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		s.results(receipt(op, "h"))
		if next := s.op(); next.GetCancel().GetHandle().GetToken() != "h" {
			t.Errorf("got %v, want a Cancel", next)
		}
		return s.drain()
	})
}
