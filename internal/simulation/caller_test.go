package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/history"
)

// kinds are the jobs that callers ask for; the commonest are there more than once.
var kinds = []string{
	"echo", "echo", "echo", "stream", "stream", "stream", "large", "large", "fail", "ack", "reject", "retry",
	"forward", "splice", "future", "nested", "hang",
}

// call asks for jobs, one or a few at a time, and judges the answers.
func (w *world) call(ctx context.Context, c *client.Client, name string) {
	r := w.random("caller " + name)
	for i := range 6 {
		id := fmt.Sprint(name, ".", i)
		switch r.IntN(8) {
		case 0:
			w.enqueue(ctx, c, r, id)
		case 1:
			w.batch(ctx, c, r, id)
		case 2:
			w.twice(ctx, c, r, id)
		default:
			var asked sync.WaitGroup
			for n := range 1 + r.IntN(3) {
				asked.Go(w.ask(ctx, c, r, fmt.Sprint(id, ".", n)))
			}
			asked.Wait()
		}
		time.Sleep(time.Duration(r.IntN(int(20 * time.Millisecond))))
	}
}

func drawJob(r *rand.Rand, id, do string) (queue string, j job) {
	return queues[r.IntN(len(queues))], job{ID: id, Do: do, N: r.IntN(20), To: queues[r.IntN(len(queues))]}
}

// pipeOptions never abandon a pipe for the faults of its caller. They do abandon that of a caller who has had to give up
// after an outage: otherwise its worker would be held up by a pipe that nobody reads until its deadline.
func pipeOptions(r *rand.Rand) client.CallOption {
	return client.WithPipe(client.PipeOptions{DisconnectGrace: 4 * time.Minute, CapacityReplies: uint32(2 + r.IntN(20))})
}

// ask makes a call, and returns what awaits and judges its answer.
func (w *world) ask(ctx context.Context, c *client.Client, r *rand.Rand, id string) (await func()) {
	queue, j := drawJob(r, id, kinds[r.IntN(len(kinds))])
	m := j.message()
	nested := w.nested(ctx, c, j, &m)
	limit, patience := long, long
	switch r.IntN(5) {
	case 0:
		limit = time.Duration(r.IntN(int(2 * time.Second)))
	case 1:
		patience = time.Duration(r.IntN(int(time.Second))) // and then it is cancelled
	}
	if j.Do == "hang" && min(limit, patience) == long {
		patience = time.Second
	}
	mayEnd := min(limit, patience) < long
	request := w.h.request(j, mayEnd)
	if mayEnd { // some time, by the server, or by the client when its context ends
		w.h.pipe(id, history.PipeInput{Kind: history.Expire})(history.Output{Unknown: true})
		w.h.pipe(id, history.PipeInput{Kind: history.Cancel})(history.Output{Unknown: true})
	}
	began := time.Now()
	request.waits = true
	limited, stop := context.WithDeadline(ctx, began.Add(limit))
	call := c.Call(limited, queue, m, pipeOptions(r))
	timer := time.AfterFunc(patience, call.Cancel)
	return func() {
		defer stop()
		a := receive(call, j)
		timer.Stop()
		if receipt, err := call.Receipt(); err == nil {
			w.h.received(request, receipt)
		}
		w.h.tell("answer to %s: %d replies, %v", id, len(a.replies), a.err)
		if late := time.Since(began) - limit; late > 2*time.Second {
			w.t.Errorf("job %s ended %v after its deadline", id, late)
		}
		var ended *client.EndError
		if a.err == nil || errors.As(a.err, &ended) {
			w.h.pipe(id, history.PipeInput{Kind: history.End})(a.end())
		}
		if mayEnd && gaveUp(a.err) || w.forgiven(a.err) {
			return
		}
		w.check(ctx, c, j, a)
		if nested != nil {
			nested(mayEnd)
		}
	}
}

// nested gives a job of that kind another pipe to reply through, and returns what awaits that.
func (w *world) nested(ctx context.Context, c *client.Client, j job, m *client.Message) func(mayEnd bool) {
	if j.Do != "nested" {
		return nil
	}
	pipe, err := c.OpenPipe(ctx, client.PipeOptions{Timeout: long})
	if err != nil {
		w.t.Errorf("OpenPipe() = %v", err)
		return nil
	}
	m.Handles = map[string]handles.Handle{"nested": pipe.Send}
	return func(mayEnd bool) {
		value, err := client.NewFuture[[]byte](c, pipe.Receive).Await(ctx)
		if (err != nil || !bytes.Equal(value, j.part(1))) && !mayEnd {
			w.t.Errorf("job %s: the nested pipe gave %q, %v", j.ID, value, err)
		}
	}
}

// gaveUp tells whether a call ended because its caller wanted it to.
func gaveUp(err error) bool {
	return errors.Is(err, client.ErrCancelled) || errors.Is(err, client.ErrExpired) || errors.Is(err, context.DeadlineExceeded)
}

// An answer is all that came of a call.
type answer struct {
	replies []client.Reply
	value   []byte // of a large one
	err     error
}

// receive awaits all of an answer.
func receive(call *client.Call, j job) (a answer) {
	if j.Do == "large" {
		a.value, a.err = call.Reader().ReadAll()
		return a
	}
	for reply, err := range call.Replies() {
		if err != nil {
			a.err = err
			break
		}
		a.replies = append(a.replies, reply)
	}
	return a
}

// end is what the caller saw of the pipe's end.
func (a answer) end() history.Output {
	o := history.Output{Reason: client.EndOK, Last: uint64(len(a.replies))}
	var ended *client.EndError
	if errors.As(a.err, &ended) {
		o.Reason, o.Last = ended.Reason, ended.LastSequence
	}
	return o
}

// check judges the answer to a job that nobody gave up.
func (w *world) check(ctx context.Context, c *client.Client, j job, a answer) {
	wantErr := map[string]error{"fail": client.Reason("SIMULATED"), "ack": client.ErrBroken, "reject": client.ErrRejected}[j.Do]
	if !errors.Is(a.err, wantErr) || (a.err == nil) != (wantErr == nil) {
		w.t.Errorf("job %s (%s) ended with %v, want %v", j.ID, j.Do, a.err, wantErr)
		return
	}
	for i, reply := range a.replies {
		if reply.Sequence != uint64(i+1) {
			w.t.Errorf("job %s: reply %d has the sequence %d", j.ID, i+1, reply.Sequence)
		}
	}
	var want []string
	switch j.Do {
	case "large":
		if !bytes.Equal(a.value, j.large()) {
			w.t.Errorf("job %s: got %d bytes, want %d others", j.ID, len(a.value), len(j.large()))
		}
		return
	case "future":
		w.follow(ctx, c, j, a)
		return
	case "stream":
		for i := range j.N + 1 {
			want = append(want, string(j.part(i)))
		}
	case "echo", "retry", "nested":
		want = []string{string(j.part(0))}
	case "forward", "splice":
		want = []string{string(job{ID: j.ID + "/rest"}.part(0))}
	}
	if diff := cmp.Diff(want, a.lastAttempt()); diff != "" {
		w.t.Errorf("job %s (%s): replies (-want +got)\n%s", j.ID, j.Do, diff)
	}
}

// lastAttempt are the payloads of the attempt that came to an end; those before it only came so far.
func (a answer) lastAttempt() (payloads []string) {
	attempt := uint32(0)
	for _, reply := range a.replies {
		if reply.Attempt > attempt {
			attempt, payloads = reply.Attempt, nil
		}
		payloads = append(payloads, string(reply.Payload))
	}
	return payloads
}

// follow awaits the future in an answer.
func (w *world) follow(ctx context.Context, c *client.Client, j job, a answer) {
	if len(a.replies) != 1 {
		w.t.Errorf("job %s: got %d replies, want the one with a future", j.ID, len(a.replies))
		return
	}
	want := string(job{ID: j.ID + "/rest"}.part(0))
	if value, err := client.NewFuture[string](c, a.replies[0].Handles["future"]).Await(ctx); err != nil || value != want {
		w.t.Errorf("job %s: the future gave %q, %v", j.ID, value, err)
	}
}

// enqueue asks for a job whose answer nobody awaits.
func (w *world) enqueue(ctx context.Context, c *client.Client, r *rand.Rand, id string) {
	queue, j := drawJob(r, id, []string{"echo", "stream", "ack", "retry", "reject"}[r.IntN(5)])
	request := w.h.request(j, false)
	receipt, err := c.Enqueue(ctx, queue, j.message())
	if err != nil {
		if !w.forgiven(err) {
			w.t.Errorf("Enqueue() = %v", err)
		}
		return
	}
	w.h.received(request, receipt)
}

// batch asks for several at once.
func (w *world) batch(ctx context.Context, c *client.Client, r *rand.Rand, id string) {
	items := make([]client.Item, 1+r.IntN(5))
	requests := make([]*request, len(items))
	for i := range items {
		queue, j := drawJob(r, fmt.Sprint(id, ".", i), "echo")
		items[i] = client.Item{Queue: queue, Message: j.message()}
		requests[i] = w.h.request(j, false)
	}
	results, err := c.EnqueueBatch(ctx, items...)
	if err != nil && !w.forgiven(err) {
		w.t.Errorf("EnqueueBatch() = %v", err)
	}
	for i, result := range results {
		if result.Err != nil {
			w.t.Errorf("EnqueueBatch(): item %d: %v", i, result.Err)
			continue
		}
		w.h.received(requests[i], result.Receipt)
	}
}

// twice calls from two clients with the same key: that is one message and one pipe.
func (w *world) twice(ctx context.Context, c *client.Client, r *rand.Rand, id string) {
	queue, j := drawJob(r, id, "stream")
	request := w.h.request(j, false)
	request.waits = true
	options := []client.CallOption{client.WithIdempotencyKey(id), client.WithPipe(client.PipeOptions{Timeout: long, DisconnectGrace: long, Retain: long})}
	calls := []*client.Call{
		c.Call(ctx, queue, j.message(), options...),
		w.clients[r.IntN(clients)].Call(ctx, queue, j.message(), options...),
	}
	duplicates := 0
	for _, call := range calls {
		w.check(ctx, c, j, receive(call, j))
		receipt, err := call.Receipt()
		if err != nil {
			w.t.Errorf("Receipt() = %v", err)
			continue
		}
		w.h.received(request, receipt)
		if receipt.Duplicate {
			duplicates++
		}
	}
	if duplicates == 0 { // one that was cut, and repeated, is a duplicate of itself
		w.t.Errorf("job %s: neither of two calls with one key is a duplicate", id)
	}
}

// count fills the ordered queue.
func (w *world) count(ctx context.Context, c *client.Client, producer string) {
	r := w.random("count " + producer)
	for i := range 12 {
		if _, err := c.Enqueue(ctx, "order", client.Message{Payload: fmt.Append(nil, producer, "/", i)}); err != nil && !w.forgiven(err) {
			w.t.Errorf("Enqueue() = %v", err)
		}
		time.Sleep(time.Duration(r.IntN(int(5 * time.Millisecond))))
	}
}

// inOrder empties the ordered queue, all by itself.
func (w *world) inOrder(ctx context.Context) {
	s, err := w.clients[0].Consume(ctx, client.ConsumeConfig{MaxInFlight: 4}, "order")
	if err != nil {
		w.t.Errorf("Consume() = %v", err)
		return
	}
	for d, err := range s.Deliveries(ctx) {
		if err != nil {
			if !over(err) {
				w.t.Errorf("Next() = %v", err)
			}
			return
		}
		if d.Attempt == 1 {
			w.h.counted(string(d.Payload))
		}
		if err := d.Ack(ctx); err != nil && !errors.Is(err, client.ReasonLeaseStale) && !errors.Is(err, client.ReasonLeaseUnknown) && !over(err) {
			w.t.Errorf("Ack() = %v", err)
		}
	}
}

func sorted(n []int) bool {
	return slices.IsSorted(n) && len(slices.Compact(slices.Clone(n))) == len(n)
}
