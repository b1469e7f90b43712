package simulation_test

import (
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replyq/replyq/internal/history"
)

// judge judges what was noted, when the world is at its end: all are through, and all queues are empty.
func (w *world) judge() {
	h := w.h
	h.mu.Lock()
	defer h.mu.Unlock()
	w.judgeRequests()
	w.judgeMessages()
	for id, operations := range h.pipes {
		if !follows(h.requests[id]) {
			continue
		}
		if porcupine.CheckOperationsTimeout(history.PipeModel, operations, time.Hour) != porcupine.Ok {
			w.t.Errorf("the pipe of job %s cannot have done this:%s", id, history.List(operations))
		}
	}
	for producer, numbers := range h.order {
		if !sorted(numbers) {
			w.t.Errorf("producer %s: first deliveries came in the order %v", producer, numbers)
		}
	}
	for _, q := range w.bed.Broker.QueueStatistics(1, "") {
		if q.Waiters+q.Ready+q.InFlight+q.Delayed != 0 {
			w.t.Errorf("queue %s is not empty in the end: %+v", q.Name, q)
		}
	}
}

// follows tells whether all that is done with the pipe of a request was noted: others lead elsewhere.
func follows(r *request) bool {
	if r == nil || !r.accepted || !r.waits {
		return false
	}
	switch r.job.Do {
	case "echo", "stream", "retry", "fail", "ack", "reject":
		return true
	default:
		return false
	}
}

// judgeRequests: what was confirmed was done, and once.
func (w *world) judgeRequests() {
	ids := make(map[string][]string)
	for _, m := range w.h.messages {
		ids[m.job] = append(ids[m.job], m.id)
	}
	for id, r := range w.h.requests {
		if len(ids[id]) == 0 && r.accepted && !r.mayEnd {
			w.t.Errorf("job %s was confirmed as message %s, and never delivered", id, r.message)
		}
		if len(ids[id]) > 1 || len(ids[id]) == 1 && r.accepted && ids[id][0] != r.message {
			w.t.Errorf("job %s became the messages %q, its receipt names %s", id, ids[id], r.message)
		}
	}
	for id := range ids {
		if asked, _, _ := strings.Cut(id, "/"); w.h.requests[asked] == nil {
			w.t.Errorf("job %s was delivered, and nobody had asked for it", id)
		}
	}
}

func (w *world) judgeMessages() {
	for _, m := range w.h.messages {
		if err := history.CheckMessage(m.operations); err != nil {
			w.t.Errorf("message %s of job %s: %v", m.id, m.job, err)
		}
	}
}
