package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
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

// TestPatientAnswerHasCompany: a patient receipt comes in one frame with the reply and the end, and the result of a
// patient reply in one with the next delivery.
func TestPatientAnswerHasCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, testbed.InMemory())
		worker := c.openSession(&queuepb.Hello{}, opConsume(1, "work", 2))
		worker.next(1)
		caller := c.openSession(&queuepb.Hello{})
		before := time.Now()
		caller.do(patiently(opCall(1, "work", "x")))
		d := worker.next(1).GetConsume().GetDelivery()
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
