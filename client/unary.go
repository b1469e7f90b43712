package client

import (
	"context"
	"sync"
	"time"
)

// unary is an operation with one result, and its caller, who waits.
type unary struct {
	operation
	done chan struct{} // holds one
	kind opKind        // of the result
	body []byte        // of the result, copied
	err  error
	pool *pools
}

// pools keeps what is used again. Each client has its own: what holds a channel must not move between the bubbles of
// testing/synctest.
type pools struct {
	unaries sync.Pool // of *unary, whose result was taken: never while the link may know them
	wakes   sync.Pool // of chan struct{} that hold one and hold nothing now
}

func (p *pools) unary(kind opKind) *unary {
	u, ok := p.unaries.Get().(*unary)
	if !ok {
		u = &unary{done: make(chan struct{}, 1), pool: p}
	}
	u.operation = operation{sink: u, kind: kind, body: u.operation.body[:0]}
	return u
}

func (p *pools) wake() chan struct{} {
	if wake, ok := p.wakes.Get().(chan struct{}); ok {
		return wake
	}
	return make(chan struct{}, 1)
}

func (u *unary) free() {
	if cap(u.operation.body) > maxPooledBody || cap(u.body) > maxPooledBody {
		return
	}
	u.err = nil
	u.pool.unaries.Put(u)
}

// result implements sink.
func (u *unary) result(r *result) {
	u.kind, u.body, u.err = r.kind, append(u.body[:0], r.body...), r.err
	u.done <- struct{}{}
}

// resume implements sink.
func (*unary) resume(bool) []byte { return nil } // unreachable: its answer is its last result

// A response takes what a result has.
type response interface{ UnmarshalVT(b []byte) error }

// do submits the operation on l and waits for its result, which is decoded into r. It frees u.
func (u *unary) do(ctx context.Context, l *link, r response) error {
	if err := u.begin(ctx, l); err != nil {
		return err
	}
	return u.finish(ctx, l, r)
}

// begin submits the operation. If it fails, it frees u.
func (u *unary) begin(ctx context.Context, l *link) error {
	err := error(nil)
	if ctx.Err() != nil {
		err = contextError(ctx, "before it was sent", OutcomeNotApplied)
	} else {
		err = l.submit(ctx, &u.operation)
	}
	if err != nil {
		u.free()
	}
	return err
}

// finish waits for the result of what was begun, which is decoded into r. Refusals that ask for patience are waited for and
// repeated. It frees u.
func (u *unary) finish(ctx context.Context, l *link, r response) error {
	for {
		if err := u.wait(ctx, l); err != nil {
			return err // u still belongs to the link
		}
		res := result{op: &u.operation, kind: u.kind, body: u.body, err: u.err}
		e := res.failure()
		if e == nil {
			err := r.UnmarshalVT(u.body)
			u.free()
			return err
		}
		d, again := e.repeatAfter()
		if !again {
			u.free()
			return e
		}
		if err := patience(ctx, d, e); err != nil {
			u.free()
			return err
		}
		if err := u.begin(ctx, l); err != nil {
			return err
		}
	}
}

// wait waits for the result. If it fails, u must not be used again.
func (u *unary) wait(ctx context.Context, l *link) error {
	select {
	case <-u.done: // as for most of those who come back later for it: without a lock of ctx's
		return nil
	default:
	}
	select {
	case <-u.done:
		return nil
	case <-ctx.Done():
	}
	what := l.waitsFor("the answer")
	switch l.abandon(&u.operation) {
	case opQueued:
		return contextError(ctx, what, OutcomeNotApplied)
	case opSent:
		return contextError(ctx, what, OutcomeUnknown)
	default:
		<-u.done // it was faster after all
		return nil
	}
}

// patience waits as long as a refusal asks for. Its error is the refusal, which the end of the context made final.
func patience(ctx context.Context, d time.Duration, refusal *Error) error {
	timer := time.NewTimer(spread(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		final := *refusal
		final.cause = ctx.Err()
		return &final
	}
}

// task is an operation with one result that nobody waits for; then, if set, is called with it by run and must not block.
type task struct {
	operation
	then func(*result)
}

func newTask(kind opKind, then func(*result)) *task {
	t := &task{then: then}
	t.operation = operation{sink: t, kind: kind}
	t.takeBody()
	return t
}

// result implements sink.
func (t *task) result(r *result) {
	t.freeBody()
	if t.then != nil {
		t.then(r)
	}
}

// resume implements sink.
func (*task) resume(bool) []byte { return nil } // unreachable: its answer is its last result
