package simulation_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/history"
)

// A record is what was noted while a world lived.
type record struct {
	t    *testing.T
	seed uint64
	// clock orders what is noted: fake time stands still too often for that.
	clock atomic.Int64

	mu       sync.Mutex
	cuts     int
	requests map[string]*request              // by job
	messages map[string]*message              // by message id
	pipes    map[string][]porcupine.Operation // by job
	order    map[string][]int                 // first deliveries of the ordered queue, by producer
}

// A request is a job that somebody asked for.
type request struct {
	job      job
	waits    bool // somebody waits for the answer
	accepted bool // its receipt has come
	message  string
	mayEnd   bool // without having been handled: it was cancelled, or had little time
}

// A message is what workers saw of one.
type message struct {
	id, job    string
	deliveries []uint32 // their attempts
	operations []porcupine.Operation
}

func newRecord(t *testing.T, seed uint64) *record {
	return &record{
		t: t, seed: seed, requests: make(map[string]*request), messages: make(map[string]*message),
		pipes: make(map[string][]porcupine.Operation), order: make(map[string][]int),
	}
}

// tell tells what happens, if only one seed is run.
func (h *record) tell(format string, args ...any) {
	if *oneSeed != 0 {
		h.t.Logf("%v %s", time.Now().Format("04:05.000000"), fmt.Sprintf(format, args...))
	}
}

// request notes that somebody asks for a job.
func (h *record) request(j job, mayEnd bool) *request {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &request{job: j, mayEnd: mayEnd}
	h.requests[j.ID] = r
	return r
}

// received notes a receipt. Asking again, by the same key, gives the same one.
func (h *record) received(r *request, receipt client.Receipt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.accepted && r.message != receipt.MessageID {
		h.t.Errorf("job %s became message %s and then %s", r.job.ID, r.message, receipt.MessageID)
	}
	r.accepted, r.message = true, receipt.MessageID
}

// delivered notes a delivery.
func (h *record) delivered(d *client.Delivery, j job) {
	now := h.clock.Add(1)
	h.tell("delivered %s attempt %d to %s", j.ID, d.Attempt, d.MessageID)
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.messages[d.MessageID]
	if m == nil {
		m = &message{id: d.MessageID, job: j.ID}
		h.messages[d.MessageID] = m
	}
	m.deliveries = append(m.deliveries, d.Attempt)
	// It was given out at some time before.
	m.operations = append(m.operations, porcupine.Operation{
		Input: history.MessageInput{Kind: history.Deliver, Attempt: d.Attempt}, Output: history.Output{}, Call: 0, Return: now})
}

// settles notes that a delivery is about to be settled; what it returns notes how that went.
func (h *record) settles(d *client.Delivery, kind string) func(history.Output) {
	began := h.clock.Add(1)
	return func(o history.Output) {
		h.tell("settled %s attempt %d by %s: %+v", d.MessageID, d.Attempt, kind, o)
		h.mu.Lock()
		defer h.mu.Unlock()
		m := h.messages[d.MessageID]
		m.operations = append(m.operations, porcupine.Operation{
			Input: history.MessageInput{Kind: kind, Attempt: d.Attempt}, Output: o, Call: began, Return: h.after(o)})
	}
}

// pipe notes that something is done with a job's pipe.
func (h *record) pipe(job string, in history.PipeInput) func(history.Output) {
	began := h.clock.Add(1)
	return func(o history.Output) {
		h.tell("pipe of %s: %+v: %+v", job, in, o)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.pipes[job] = append(h.pipes[job], porcupine.Operation{Input: in, Output: o, Call: began, Return: h.after(o)})
	}
}

// after is when an operation was over: one whose outcome is not known may happen at any later time.
func (h *record) after(o history.Output) int64 {
	if o.Unknown {
		return math.MaxInt64
	}
	return h.clock.Add(1)
}

// counted notes a first delivery of the ordered queue.
func (h *record) counted(payload string) {
	producer, number, _ := strings.Cut(payload, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		h.t.Errorf("the ordered queue has %q", payload)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.order[producer] = append(h.order[producer], n)
}
