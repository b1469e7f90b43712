package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// What bounds a session: the window, credit, and the patience of callers.

func TestWindow(t *testing.T) {
	const window = 4
	withFake(t, func(t *testing.T, c *Client) {
		if _, err := c.Enqueue(t.Context(), "first", Message{}); err != nil { // brings the greeting
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var mu sync.Mutex
		failed := 0
		for range 10 {
			wg.Go(func() {
				if _, err := c.Enqueue(short, "q", Message{}); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed++
					if !strings.Contains(err.Error(), "room in the session's window") && !strings.Contains(err.Error(), "the answer") {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if failed != 10 {
			t.Errorf("%d failed, want all", failed)
		}
		for range 10 { // goes on when the server does
			if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
				t.Error(err)
			}
		}
	}, func(s *fakeSession) error {
		s.greet("1", func(i *queuepb.GetServerInfoResponse) { i.Limits = &queuepb.Limits{WindowOperations: window} })
		s.results(enqueued(s.op(), "m"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		open := 0
		for op := s.op(); op != nil; op = s.op() {
			if open++; open > window {
				t.Errorf("%d operations unanswered", open)
			}
			if len(s.operations) == 0 {
				time.Sleep(time.Second)
			}
			s.results(enqueued(op, "m"))
			open--
		}
		return nil
	})
}

func TestPatience(t *testing.T) {
	busy := &queuepb.Error{
		Code: int32(codes.ResourceExhausted), Reason: "QUEUE_FULL", RetryAfter: durationpb.New(time.Second), Message: "full"}
	withFake(t, func(t *testing.T, c *Client) {
		start := time.Now()
		if _, err := c.Enqueue(t.Context(), "q", Message{}); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d < 800*time.Millisecond {
			t.Errorf("repeated after %v", d)
		}
		if r, err := c.Call(t.Context(), "q", Message{}).One(); err != nil || string(r.Payload) != "x" {
			t.Errorf("One() = %q, %v", r.Payload, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := c.Enqueue(ctx, "q", Message{}); !errors.Is(err, ReasonQueueFull) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Enqueue() = %v, want QUEUE_FULL and the deadline", err)
		}
		if _, err := c.Call(ctx, "q", Message{}).One(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("One() = %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := c.Call(ctx, "q", Message{}).One(); !errors.Is(err, ReasonQueueFull) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("One() = %v, want QUEUE_FULL and the deadline", err)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		s.results(refusal(op, busy))
		again := s.op()
		if again.GetId() != op.GetId()+1 {
			t.Errorf("repeated as %d, want a new operation", again.GetId())
		}
		s.results(enqueued(again, "m"))
		s.results(refusal(s.op(), busy))
		op = s.op()
		s.results(receipt(op, "h"), callReply(op, 1, "x"), callEnd(op))
		s.results(refusal(s.op(), busy))
		s.results(refusal(s.op(), busy))
		return s.drain()
	})
}

// Room is given as replies are taken, and bytes as they come.
func TestCredit(t *testing.T) {
	withFake(t, func(t *testing.T, c *Client) {
		n := 0
		for _, err := range c.Call(t.Context(), "q", Message{}).Replies() {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if n == readerCredit { // until here only what it began with was used
				synctest.Wait()
			}
		}
		if n != 1000 {
			t.Errorf("got %d replies", n)
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		op := s.op()
		room, bytes := int(op.GetCredit()), int(s.hello.GetCreditBytes())
		if room != readerCredit {
			t.Errorf("first credit: got %d", room)
		}
		s.results(receipt(op, "h"))
		payload := strings.Repeat("x", 10_000)
		for i := range 1000 {
			for room == 0 || bytes <= 0 {
				if !s.read() {
					t.Errorf("no credit after %d replies: %d replies, %d bytes", i, room, bytes)
					return nil
				}
				for _, credit := range s.credits {
					if credit.GetOperationId() == op.GetId() {
						room += int(credit.GetItems())
					}
					bytes += int(credit.GetBytes())
				}
				s.credits = nil
			}
			r := callReply(op, uint64(i+1), payload)
			room--
			bytes -= r.SizeVT()
			s.results(r)
		}
		s.results(callEnd(op))
		return s.drain()
	})
}

// However much lies unread of other calls, one that is read goes on.
func TestUnreadCallsHoldUpNobody(t *testing.T) {
	const calls, perCall = 8, 250
	withFake(t, func(t *testing.T, c *Client) {
		var all []*Call
		for range calls {
			all = append(all, c.Call(t.Context(), "q", Message{}))
		}
		for _, call := range all {
			n := 0
			for _, err := range call.Replies() {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != perCall {
				t.Errorf("got %d replies", n)
			}
		}
	}, func(s *fakeSession) error {
		s.greet("1")
		var ops []*queuepb.Operation
		for range calls {
			ops = append(ops, s.op())
		}
		for _, op := range ops {
			s.results(receipt(op, "h"))
		}
		room := int(s.hello.GetCreditBytes())
		payload := strings.Repeat("x", 16<<10)
		for i := range perCall {
			for _, op := range slices.Backward(ops) { // the one that is read first comes last
				for room <= 0 {
					if !s.read() {
						t.Error("no more credit")
						return nil
					}
					for _, credit := range s.credits {
						room += int(credit.GetBytes())
					}
					s.credits = nil
				}
				r := callReply(op, uint64(i+1), payload)
				room -= r.SizeVT()
				s.results(r)
			}
		}
		for _, op := range ops {
			s.results(callEnd(op))
		}
		return s.drain()
	})
}
