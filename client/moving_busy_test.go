package client

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/replyq/replyq/api/queuepb"
)

// A link that always has something unanswered leaves a replica that goes away as well, and goes on with it at the next one.
func TestBusyLinkMovesOn(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		s, err := c.Consume(t.Context(), ConsumeConfig{ConsumerID: "me", MaxInFlight: 9, DisconnectGrace: time.Minute}, "q")
		if err != nil {
			t.Fatal(err)
		}
		var settled sync.WaitGroup
		for {
			d, err := s.Next(t.Context())
			if errors.Is(err, ErrStopped) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			settled.Go(func() {
				if err := d.Ack(t.Context()); err != nil {
					t.Errorf("Ack() of %s = %v", d.MessageID, err)
				}
			})
		}
		settled.Wait()
	}, func(s *fakeSession) error {
		s.greet("1", ofReplica)
		consume := s.op()
		s.results(started(consume), first(consume, "1"))
		settle := s.op()
		s.send(goingAway())
		for i := range 7 { // each time the next one is unanswered when the last one is answered
			time.Sleep(time.Second / 2)
			s.results(first(consume, fmt.Sprint(i+2)))
			next := s.op()
			if next == nil {
				if i < 5 {
					t.Errorf("the client has left after %d deliveries", i)
				}
				return nil
			}
			s.results(settleDone(settle))
			settle = next
		}
		s.left()
		return nil
	}, func(s *fakeSession) error {
		s.greet("1")
		for op := s.op(); op != nil; op = s.op() {
			switch {
			case op.GetSettle() != nil:
				s.results(settleDone(op))
			case op.GetConsume() != nil:
				s.results(started(op), &queuepb.Result{Id: op.GetId(), Done: true})
			case op.GetExtendLeases() == nil:
				t.Errorf("the next replica got %v", op)
			}
		}
		return nil
	})
}
