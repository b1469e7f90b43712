package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/testbed"
	"github.com/replyq/replyq/journal"
)

func patiently(op *queuepb.Operation) *queuepb.Operation {
	op.Patient = true
	return op
}

// TestPatientAnswer: the answer to a patient operation comes a millisecond later if nothing else is to be sent, that to
// any other at once; an error never waits.
func TestPatientAnswer(t *testing.T) {
	for _, test := range []struct {
		name string
		op   *queuepb.Operation
		want time.Duration
	}{
		{"call", opCall(1, "work", "x"), 0},
		{"patient call", patiently(opCall(1, "work", "x")), time.Millisecond},
		{"enqueue", opEnqueue(1, "work"), 0},
		{"patient enqueue", patiently(opEnqueue(1, "work")), time.Millisecond},
		{"patient error", patiently(opCall(1, "no such name", "x")), 0},
		{"patient describe", patiently(&queuepb.Operation{
			Id: 1, Request: &queuepb.Operation_GetServerInfo{GetServerInfo: &queuepb.GetServerInfoRequest{}},
		}), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newClient(t, testbed.InMemory()).openSession(&queuepb.Hello{})
				for range 3 { // the timer is used again
					synctest.Wait() // the sender is at rest: else it may take the answer along
					before := time.Now()
					s.do(test.op)
					s.next(test.op.Id)
					if got := time.Since(before); got != test.want {
						t.Errorf("operation %d: the answer took %v, want %v", test.op.Id, got, test.want)
					}
					test.op.Id++
				}
			})
		})
	}
}

// TestPatientAnswerOfAJournal: the answer to a patient operation comes when it is kept, and waits for nothing else.
func TestPatientAnswerOfAJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := testbed.WithBroker(func(c *broker.Config) {
			c.Journal = func(uint16) (journal.Journal, error) { return new(journal.Memory), nil }
		})
		s := newClient(t, testbed.InMemory(), kept).openSession(&queuepb.Hello{})
		for id := uint64(1); id <= 3; id++ {
			synctest.Wait()
			before := time.Now()
			s.do(patiently(opCall(id, "work", "x")))
			synctest.Wait() // it is kept, and nothing else happens
			s.next(id)
			if got := time.Since(before); got != 0 {
				t.Errorf("operation %d: the answer took %v, want none", id, got)
			}
		}
	})
}

// TestPatientAnswerHasCompany: a patient receipt comes in one frame with the reply and the end, and the result of a
// patient reply in one with the next delivery.
func TestPatientAnswerHasCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		worker := c.openSession(&queuepb.Hello{}, opConsume(1, "work", 2))
		worker.next(1)
		caller := c.openSession(&queuepb.Hello{})
		synctest.Wait() // see above
		before := time.Now()
		caller.do(patiently(opCall(1, "work", "x")))
		d := worker.next(1).GetConsume().GetDelivery()
		synctest.Wait()
		worker.do(patiently(opReply(2, d, "y", false)))
		if got := len(caller.read().GetResults()); got != 3 {
			t.Errorf("the first frame has %d results, want receipt, reply and end", got)
		}
		caller.do(patiently(opCall(2, "work", "x")))
		frame := worker.read()
		if len(frame.GetResults()) != 2 {
			t.Errorf("the worker's frame has %d results, want the reply's and a delivery", len(frame.GetResults()))
		}
		if got := time.Since(before); got != 0 {
			t.Errorf("it took %v, want nothing to wait", got)
		}
	})
}

// TestPatientReplyThatWaitedForRoom: the result of a patient reply that had to wait for room comes when the reader gives
// some, though it is another session that does.
func TestPatientReplyThatWaitedForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		pipe := must[*queuepb.OpenPipeResponse](t)(c.OpenPipe(c.ctx, &queuepb.OpenPipeRequest{
			Pipe: &queuepb.PipeOptions{CapacityReplies: 1},
		}))
		reader := c.openSession(&queuepb.Hello{}, &queuepb.Operation{Id: 1, Credit: 1, Request: &queuepb.Operation_Receive{
			Receive: &queuepb.ReceiveRequest{Handle: pipe.ReceiveHandle},
		}})
		reader.next(1)
		worker := c.openSession(&queuepb.Hello{})
		reply := func(id uint64) *queuepb.Operation {
			return patiently(&queuepb.Operation{Id: id, Request: &queuepb.Operation_Reply{Reply: &queuepb.ReplyRequest{
				Handle: pipe.SendHandle, Body: &queuepb.ReplyRequest_Payload{Payload: []byte("x")}, More: true,
			}}})
		}
		worker.do(reply(1), reply(2))
		worker.next(1)
		reader.next(1)
		before := time.Now()
		reader.write(&queuepb.SessionRequest{Credits: []*queuepb.Credit{{OperationId: 1, Items: 1}}})
		reader.next(1)
		worker.next(2)
		if got := time.Since(before); got > time.Millisecond {
			t.Errorf("the result came %v after there was room, want at most 1 ms", got)
		}
	})
}
