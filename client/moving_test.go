package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// Replicas that go away: when the link moves on to another one, and what it sends until then.

// A consumer without a grace leaves one of several replicas that goes away when it has settled what it holds, and gets nothing
// new there until then: it would never be done. What its handler asks for meanwhile is still done there, but for new consumers.
func TestConsumerMovesOn(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("before it starts %v", early), func(t *testing.T) {
			withFake(t, func(t *testing.T, c *Client) {
				s, err := c.Consume(t.Context(), ConsumeConfig{ConsumerID: "me"}, "q")
				if err != nil {
					t.Fatal(err)
				}
				var others sync.WaitGroup
				for _, want := range []string{"here", "there", "elsewhere"} {
					d, err := s.Next(t.Context())
					if err != nil || d.MessageID != want {
						t.Fatalf("Next() = %+v, %v, want %s", d, err, want)
					}
					time.Sleep(time.Second)
					if want == "there" {
						others.Go(func() {
							if _, err := c.Consume(t.Context(), ConsumeConfig{ConsumerID: "other"}, "q"); err != nil {
								t.Errorf("Consume() = %v", err)
							}
						})
						synctest.Wait()
					}
					if want != "elsewhere" {
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						defer cancel()
						if r, err := c.Call(ctx, "nested", Message{}).One(); err != nil || string(r.Payload) != "x" {
							t.Errorf("One() = %q, %v", r.Payload, err)
						}
					}
					if err := d.Ack(t.Context()); err != nil {
						t.Errorf("Ack() = %v", err)
					}
				}
				others.Wait()
			}, stops("here", early), stops("there", early), func(s *fakeSession) error {
				s.greet("1")
				var mine *queuepb.Operation
				for range 2 {
					consume := s.op()
					p := consume.GetConsume()
					if p == nil || len(p.GetHeldLeases()) > 0 {
						t.Errorf("the last replica got %v, want a consumer without leases", consume)
					}
					if p.GetConsumerId() == "me" {
						mine = consume
					}
					s.results(started(consume))
				}
				s.results(first(mine, "elsewhere"))
				s.results(settleDone(s.op()))
				return s.drain()
			})
		})
	}
}

// stops is a replica that goes away when it has made one delivery, or before.
func stops(id string, early bool) func(*fakeSession) error {
	return func(s *fakeSession) error {
		s.greet("1", ofReplica)
		consume := s.op()
		if p := consume.GetConsume(); p.GetConsumerId() != "me" || len(p.GetHeldLeases()) > 0 {
			s.t.Errorf("a replica got %v, want the consumer without leases", consume)
		}
		if early {
			s.send(goingAway())
		}
		s.results(started(consume), first(consume, id))
		if !early {
			s.send(goingAway())
		}
		stop := s.op()
		if stop.GetStopConsuming().GetConsumerId() != "me" {
			s.t.Errorf("a replica that goes away got %v, want an end of deliveries", stop)
		}
		s.results(stopDone(stop))
		call := s.op()
		if call.GetCall() == nil {
			s.t.Errorf("a replica that goes away got %v, want the handler's call", call)
		}
		s.results(receipt(call, "h"), callReply(call, 1, "x"), callEnd(call))
		settle := s.op()
		if settle.GetSettle() == nil {
			s.t.Errorf("a replica that goes away got %v, want a settlement", settle)
		}
		s.results(settleDone(settle), &queuepb.Result{Id: consume.GetId(), Done: true})
		s.left()
		return nil
	}
}

// Who gives up the last delivery leaves a replica that goes away at once, also when no frame comes after that.
func TestSettledMovesOn(t *testing.T) {
	receive := testHandle(t, handles.Receive, 1)
	for _, test := range []struct {
		name string
		end  func(*Consumer, *Delivery) error
	}{
		{"ack", func(_ *Consumer, d *Delivery) error { return d.Ack(d.Context()) }},
		{"close", func(s *Consumer, _ *Delivery) error { s.Close(); return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			withFake(t, func(t *testing.T, c *Client) {
				s, d := holding(t, c)
				time.Sleep(time.Second)
				if err := test.end(s, d); err != nil {
					t.Errorf("the end of the delivery: %v", err)
				}
				synctest.Wait()
				var others sync.WaitGroup
				others.Go(func() {
					if _, _, err := c.Cancel(t.Context(), receive, ""); err != nil {
						t.Errorf("Cancel() = %v", err)
					}
				})
				if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
					t.Errorf("Enqueue() = %v", err)
				}
				others.Wait()
				// The end of a consumer that has moved is its own again.
				if d, err := s.Next(t.Context()); !errors.Is(err, ErrStopped) {
					t.Errorf("Next() = %+v, %v, want %v", d, err, ErrStopped)
				}
			}, func(s *fakeSession) error {
				s.greet("1", ofReplica)
				consume := s.op()
				s.results(started(consume), first(consume, "m"))
				s.send(goingAway())
				stop := s.op()
				s.results(stopDone(stop))
				if test.name == "ack" {
					s.results(settleDone(s.op()))
				}
				s.left()
				return nil
			}, func(s *fakeSession) error {
				s.greetGoingAway()
				// It may be all there is: what finishes something is still for it.
				cancel := s.op()
				if cancel.GetCancel() == nil {
					t.Errorf("a replica that greets and goes away got %v, want a Cancel", cancel)
				}
				s.results(&queuepb.Result{Id: cancel.GetId(), Done: true, Response: &queuepb.Result_Cancel{Cancel: &queuepb.CancelResponse{}}})
				s.left()
				return nil
			}, func(s *fakeSession) error {
				s.greet("1")
				consumers := 0
				for op := s.op(); op != nil; op = s.op() {
					switch {
					case op.GetConsume() != nil && consumers == 0:
						consumers++
						s.results(started(op), &queuepb.Result{Id: op.GetId(), Done: true})
					case op.GetEnqueue() != nil:
						s.results(enqueued(op, "m"))
					default:
						t.Errorf("the next replica got %v", op)
					}
				}
				return nil
			}, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			if strings.Contains(log.String(), "cut") {
				t.Errorf("the log has\n%s\nwant no cut", log.String())
			}
		})
	}
}

// A replica that goes away as soon as it has greeted is left as well.
func TestGreetedByOneThatGoesAway(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		s, err := c.Consume(t.Context(), ConsumeConfig{}, "q")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			d, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if err := d.Ack(t.Context()); err != nil {
				t.Errorf("Ack() = %v", err)
			}
		}
		if d, err := s.Next(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("Next() = %+v, %v, want %v", d, err, ErrStopped)
		}
	}, func(s *fakeSession) error {
		s.greet("1", ofReplica)
		consume := s.op()
		s.results(started(consume), first(consume, "m"))
		return status.Error(codes.Unavailable, "cut")
	}, func(s *fakeSession) error { // with a delivery that is held
		s.greetGoingAway()
		s.results(settleDone(s.op()))
		s.left()
		return nil
	}, func(s *fakeSession) error { // with nothing
		s.greetGoingAway()
		s.left()
		return nil
	}, func(s *fakeSession) error { // a moment later, when the consumer has come back and does not know
		s.greet("1", ofReplica)
		consume := s.op()
		s.send(goingAway())
		s.results(started(consume), first(consume, "n"))
		s.results(stopDone(s.op()))
		settle := s.op()
		if settle.GetSettle() == nil {
			t.Errorf("a replica that goes away got %v, want a settlement", settle)
		}
		s.results(settleDone(settle))
		s.left()
		return nil
	}, func(s *fakeSession) error {
		s.greet("1")
		consume := s.op()
		s.results(started(consume), &queuepb.Result{Id: consume.GetId(), Done: true})
		return s.drain()
	})
}

// What is asked for while a stream is being left is for the next one, and so is what the old one still brings.
func TestStreamThatWasLeft(t *testing.T) {
	l := newLink(&Client{}, nil)
	l.queueLocked(&operation{kind: opConsume})
	s := &stream{left: true}
	if l.gatherLocked(s) || l.accept(s, nil, nil) {
		t.Error("a stream that was left was used")
	}
	s.left = false
	if !l.gatherLocked(s) || !l.accept(s, nil, nil) {
		t.Error("a stream that was not left was not used")
	}
}

// What is queued is looked at again after each frame of a server that goes away: it may have brought a delivery.
func TestQueueOfAStreamThatGoesAway(t *testing.T) {
	l := newLink(&Client{}, nil)
	l.queueLocked(&operation{kind: opConsume})
	l.stream = &stream{replicated: true, away: true, wake: make(chan struct{}, 1)}
	l.bound.Store(1)
	if l.handedOut(l.stream) || len(l.stream.wake) == 0 {
		t.Error("the writer was not told")
	}
}

// A replica that goes away is also left at once by who gives up what it has not answered.
func TestLeftMovesOn(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Consume(ctx, ConsumeConfig{}, "q"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Consume() = %v", err)
		}
		if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
			t.Errorf("Enqueue() = %v", err)
		}
	}, func(s *fakeSession) error {
		s.greet("1", ofReplica)
		s.op()
		s.send(goingAway())
		s.left()
		return nil
	}, func(s *fakeSession) error {
		s.greet("1")
		s.results(enqueued(s.op(), "m"))
		return s.drain()
	})
}

// A delivery that comes with the answer to the last settlement holds the link at its replica.
func TestDeliveryBehindTheLastAnswer(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		done := func(context.Context, *Delivery) (*Answer, error) { return nil, nil }
		if err := c.Work(t.Context(), WorkConfig{ConsumerID: "me"}, done, "q"); err != nil {
			t.Errorf("Work() = %v", err)
		}
	}, func(s *fakeSession) error {
		s.greet("1", ofReplica)
		consume := s.op()
		s.results(started(consume), first(consume, "first"))
		s.send(goingAway())
		stop, settle := s.op(), s.op()
		if stop.GetSettle() != nil {
			stop, settle = settle, stop
		}
		s.results(stopDone(stop))
		s.results(settleDone(settle), first(consume, "second"))
		if settle = s.op(); settle.GetSettle() == nil {
			t.Errorf("a replica that goes away got %v, want a settlement", settle)
		}
		s.results(settleDone(settle))
		s.left()
		return nil
	}, func(s *fakeSession) error {
		s.greet("1")
		consume := s.op()
		s.results(started(consume), &queuepb.Result{Id: consume.GetId(), Done: true})
		return s.drain()
	})
}

// What was asked for when nothing was held, and could wait for another replica, is sent when something is.
func TestSentOnceSomethingIsHeld(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		var others sync.WaitGroup
		done := make(chan struct{})
		others.Go(func() {
			_, d := holding(t, c)
			<-done
			if err := d.Ack(t.Context()); err != nil {
				t.Errorf("Ack() = %v", err)
			}
		})
		time.Sleep(time.Second) // in which the replica says that it goes away
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Enqueue(ctx, "q", Message{}); err != nil {
			t.Errorf("Enqueue() = %v", err)
		}
		close(done)
		others.Wait()
	}, func(s *fakeSession) error {
		s.greet("1", ofReplica)
		consume := s.op()
		s.send(goingAway())
		time.Sleep(2 * time.Second)
		s.results(started(consume), first(consume, "m"))
		for range 2 { // in either order
			switch op := s.op(); {
			case op.GetStopConsuming() != nil:
				s.results(stopDone(op))
			case op.GetEnqueue() != nil:
				s.results(enqueued(op, "m"))
			default:
				t.Errorf("a replica that goes away got %v, want an Enqueue", op)
			}
		}
		s.results(settleDone(s.op()))
		s.left()
		return nil
	}, func(s *fakeSession) error {
		s.greet("1")
		return s.drain()
	})
}

// A server on its own that goes away gets nothing new while deliveries are held.
func TestHeldOnItsOwn(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		_, d := holding(t, c)
		synctest.Wait()
		var others sync.WaitGroup
		others.Go(func() {
			if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
				t.Errorf("Enqueue() = %v", err)
			}
		})
		synctest.Wait()
		if err := d.Ack(t.Context()); err != nil {
			t.Errorf("Ack() = %v", err)
		}
		others.Wait()
	}, func(s *fakeSession) error {
		s.greet("1", func(i *queuepb.GetServerInfoResponse) { i.Durability = queuepb.Durability_DURABILITY_DISK })
		consume := s.op()
		s.send(goingAway())
		s.results(started(consume), first(consume, "m"))
		settle := s.op()
		if settle.GetSettle() == nil {
			t.Errorf("a server that goes away got %v, want a settlement", settle)
		}
		s.results(settleDone(settle))
		return nil
	}, func(s *fakeSession) error {
		s.greet("1")
		for op := s.op(); op != nil; op = s.op() {
			if op.GetEnqueue() != nil {
				s.results(enqueued(op, "m"))
			}
		}
		return nil
	})
}

func ofReplica(i *queuepb.GetServerInfoResponse) {
	i.Durability = queuepb.Durability_DURABILITY_CLUSTER
}

func goingAway() *queuepb.SessionResponse {
	return &queuepb.SessionResponse{GoingAway: &queuepb.GoingAway{Message: "bye"}}
}

// greetGoingAway is the greeting of a replica that goes away.
func (s *fakeSession) greetGoingAway() {
	info := &queuepb.GetServerInfoResponse{BootEpoch: "1"}
	ofReplica(info)
	s.send(&queuepb.SessionResponse{Hello: info, GoingAway: goingAway().GetGoingAway()})
}

// left waits until the client leaves, which sends nothing more and does not take long.
func (s *fakeSession) left() {
	began := time.Now()
	if op := s.op(); op != nil {
		s.t.Errorf("a server that goes away got %v", op)
	}
	if took := time.Since(began); took > time.Minute/2 {
		s.t.Errorf("the client left after %v", took)
	}
}

func stopDone(op *queuepb.Operation) *queuepb.Result {
	return &queuepb.Result{Id: op.GetId(), Done: true, Response: &queuepb.Result_StopConsuming{StopConsuming: &queuepb.StopConsumingResponse{}}}
}

// holding makes a consumer without a grace, and waits for its first delivery.
func holding(t *testing.T, c *Client) (*Consumer, *Delivery) {
	t.Helper()
	s, err := c.Consume(t.Context(), ConsumeConfig{ConsumerID: "me"}, "q")
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// first is the first attempt of a message.
func first(consume *queuepb.Operation, id string) *queuepb.Result {
	return delivered(consume, &queuepb.Delivery{MessageId: id, Attempt: 1, Lease: &queuepb.Handle{Token: "lease"}})
}
