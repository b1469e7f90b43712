package broker

import (
	"log/slog"
	"time"
)

// When the journal does not keep up. Nobody is told anything that is not kept, and nobody waits for that without an end:
// when nothing was kept for a while, sessions that wait for the answer to an operation are cut off. Their clients come
// back and repeat what had no answer, which then has its first outcome. Until the journal goes on no operation is taken,
// and the shard's time stands still: nothing ends for being late while nobody could say that he lives. So what waits stays
// bounded.

const (
	defaultJournalPatience = 2 * time.Second
	defaultMaxUnkept       = 8 << 20

	// slowRetry and behindRetry are how long clients shall wait for a journal that has stalled, and for one that is only
	// slower than they are.
	slowRetry   = time.Second
	behindRetry = 100 * time.Millisecond

	// pardonTime is how long after a stall nobody loses a lease or a pipe for having been silent.
	pardonTime = 10 * time.Second
)

// A keptWait is for who waits until something is kept.
type keptWait struct {
	patient bool // it waits through stalls
	done    chan struct{}
	kept    bool // set before done is closed
}

// end lets go of who waits; nil is nobody.
func (w *keptWait) end(kept bool) {
	if w != nil {
		w.kept = kept
		close(w.done)
	}
}

// refusalLocked says why no operations are taken just now; nil if they are. The shard has so many facts of its own.
func (k *keeper) refusalLocked(facts int) *Error {
	switch {
	case k.failed != nil:
		return k.failureLocked()
	case k.stalled:
		return notCarriedOut(errJournalSlow())
	case k.size+len(k.facts)+facts > k.most:
		err := notCarriedOut(errJournalSlow())
		err.RetryAfter = behindRetry
		return err
	}
	return nil
}

// standsStillLocked reports whether nothing may happen in the shard by itself.
func (k *keeper) standsStillLocked() bool {
	still := k.refusalLocked(0) != nil
	k.late = k.late || still
	return still
}

// tooSlow is called when an append may be taking longer than it should: or a later one, which has some time left.
func (k *keeper) tooSlow() {
	r := k.runner
	r.mu.Lock()
	k.watched = false
	if !k.writing || k.began.IsZero() || k.stalled || k.failed != nil {
		r.mu.Unlock()
		return
	}
	if left := k.patience - time.Since(k.began); left > 0 {
		k.watched = true
		k.slow.Reset(left)
		r.mu.Unlock()
		return
	}
	k.stalled = true
	k.cutWaitingLocked(&k.now, errJournalSlow())
	k.cutWaitingLocked(&k.next, errJournalSlow())
	waiting := k.size + len(k.facts)
	r.mu.Unlock()
	r.broker.cutAnswers(r.number, errJournalSlow())
	r.log.Warn("the journal has stalled: operations are refused until it goes on",
		slog.Int("shard", int(r.number)), slog.Duration("for", k.patience), slog.Int("waiting_bytes", waiting))
}

// goOnLocked notes that an append has ended well, or that none was needed. What it returns is to be called without the lock.
func (k *keeper) goOnLocked() (tell func()) {
	r := k.runner
	tell = func() {}
	if k.stalled {
		k.stalled = false
		r.shard.pardonUntil = TimeOf(r.broker.now().Add(pardonTime))
		took := time.Since(k.began)
		tell = func() {
			r.log.Info("the journal goes on", slog.Int("shard", int(r.number)), slog.Duration("stalled_for", took.Round(time.Millisecond)))
		}
	}
	if k.late && k.refusalLocked(0) == nil {
		k.late = false
		if r.timer != nil && !r.closed {
			r.armed = 0
			r.timer.Reset(soonest) // what has become due is done by tick, not by the keeper, which must not wait for itself
		}
	}
	return tell
}

// failLocked ends the keeper: what is not kept will never be said.
func (k *keeper) failLocked(err error) {
	k.failed = err
	for _, b := range []*bundle{&k.now, &k.next} {
		k.cutWaitingLocked(b, k.failureLocked())
		for _, w := range b.waits { // the patient ones
			w.end(false)
		}
	}
	k.now, k.next, k.facts, k.writing, k.size = bundle{}, bundle{}, nil, false, 0
}

// cutWaitingLocked cuts off who waits for what is in a bundle.
func (k *keeper) cutWaitingLocked(b *bundle, err *Error) {
	cutOff(b.out, err)
	patient := b.waits[:0]
	for _, w := range b.waits {
		if w.patient {
			patient = append(patient, w)
		} else {
			w.end(false)
		}
	}
	clear(b.waits[len(patient):])
	b.waits = patient
	for _, part := range k.runner.shard.answers {
		part.link.session.cutOff(err)
	}
}

// cutOff cuts off the sessions that wait for one of these events.
func cutOff(out []outgoing, err *Error) {
	for i := range out {
		if isAnswer(out[i].event.Body) {
			out[i].session.cutOff(err)
		}
	}
}

// isAnswer reports whether an event is the answer to an operation, and not what follows later.
func isAnswer(body any) bool {
	switch body.(type) {
	case nil, *Delivery, *WaiterGone, *LeaseLost, *ReplyItem, *End:
		return false
	}
	return true
}

// cutAnswers cuts off who waits for what a shard says to other shards.
func (b *Broker) cutAnswers(target uint16, err *Error) {
	for _, r := range b.runners {
		if r.number == target {
			continue // done
		}
		r.mu.Lock()
		for key, part := range r.shard.answers {
			if key.target == target {
				part.link.session.cutOff(err)
			}
		}
		r.mu.Unlock()
	}
}

// Stalled says why no client shall come back just now: a journal has stalled, and what a session repeats could not be
// answered. It is nil if all is well.
func (b *Broker) Stalled() *Error {
	if over := b.over.Load(); over != nil {
		return over
	}
	for _, r := range b.runners {
		if r.keeper == nil {
			return nil
		}
		r.mu.Lock()
		var err *Error
		switch k := r.keeper; {
		case k.failed != nil:
			err = k.failureLocked()
		case k.stalled:
			err = notCarriedOut(errJournalSlow())
		}
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Failed receives the error that a journal has ended with. Nothing is confirmed any more then, all that waits is refused
// with JOURNAL_FAILED, and what is in memory is not to be trusted. If it is [journal.ErrDeposed] another owner has it:
// everybody is cut off with OWNER_CHANGED, and the broker is to be closed. Otherwise the process has to end.
func (b *Broker) Failed() <-chan error { return b.failed }

func (b *Broker) fail(err error) {
	select {
	case b.failed <- err:
	default: // another one was first
	}
}

func errJournalSlow() *Error {
	return &Error{
		Code: CodeUnavailable, Reason: ReasonJournalSlow, RetryAfter: slowRetry, OutcomeUnknown: true,
		Text: "the server's disk, or its cluster, has not answered for a while: it is not known whether the request was carried out; " +
			"a session that comes back and repeats it learns that",
	}
}

// failureLocked is what is said of a journal that has ended.
func (k *keeper) failureLocked() *Error {
	if over := k.runner.broker.over.Load(); over != nil {
		return over
	}
	return errJournalFailed()
}

func errJournalFailed() *Error {
	return &Error{
		Code: CodeUnavailable, Reason: ReasonJournalFailed, RetryAfter: slowRetry, OutcomeUnknown: true,
		Text: "the server's disk has failed and the server is about to end: it is not known whether the request was carried out",
	}
}

// notCarriedOut makes an error that of a request which has changed nothing.
func notCarriedOut(e *Error) *Error {
	e.OutcomeUnknown = false
	e.Text = "the server's disk, or its cluster, is slower than its clients, or does not answer: the request was not carried out; repeat it after a while"
	return e
}

// cutUnkept cuts off a session for which something was not kept in time.
func (s *Session) cutUnkept() {
	if over := s.broker.over.Load(); over != nil {
		s.cutOff(over)
		return
	}
	s.cutOff(errJournalSlow())
}

// takesLocked reports whether an operation is taken by a shard just now, whose lock the caller has. If not, it is turned away.
func (s *Session) takesLocked(r *runner, l *link, op *Op) bool {
	if over := s.broker.over.Load(); over != nil {
		s.cutOver(over)
		return false
	}
	err := r.refusalLocked()
	if err == nil {
		return true
	}
	_, repeated := r.shard.outcome(l, op.ID)
	s.turnAwayLocked(r, op, err, repeated)
	return false
}

// refusalLocked says why a shard takes no operations just now; nil if it does.
func (r *runner) refusalLocked() *Error {
	switch {
	case r.keeper == nil:
		return nil
	case r.shard.frozen && r.keeper.failed == nil:
		return errDraining()
	}
	return r.keeper.refusalLocked(len(r.shard.facts))
}

// turnAwayLocked refuses an operation; or the session is cut off, if the operation is a repeated one, or may be one.
func (s *Session) turnAwayLocked(r *runner, op *Op, err *Error, repeated bool) {
	if repeated || err.OutcomeUnknown || !r.keeper.mayRefuseLocked(s) {
		if err.Reason == ReasonJournalSlow {
			err = errJournalSlow()
		}
		s.cutOff(err) // it was carried out before, perhaps: its client has to come back for that
		return
	}
	// At once, and past all that waits: it tells nothing of the shard.
	s.put(nil, &r.woken, []outgoing{{s, Event{Op: op.ID, Done: true, Body: err}}})
}

// takesEverywhere reports whether an operation that may concern all shards is taken just now. If not, it is turned away.
func (s *Session) takesEverywhere(home uint16, op *Op) bool {
	if s.broker.runners[0].keeper == nil {
		return true
	}
	if over := s.broker.over.Load(); over != nil {
		s.cutOver(over)
		return false
	}
	for _, r := range append([]*runner{s.broker.runners[home]}, s.broker.runners...) {
		var err *Error
		r.run(func(*shard) { err = r.refusalLocked() })
		if err == nil {
			continue
		}
		repeated := s.carriedOut(op.ID)
		r.run(func(sh *shard) {
			if s.linkAt(sh) != nil {
				s.turnAwayLocked(r, op, err, repeated)
			}
		})
		return false
	}
	return true
}

// carriedOut reports whether an operation has an outcome in any shard: which one that is, is not known here.
func (s *Session) carriedOut(op uint64) (yes bool) {
	for _, r := range s.broker.runners {
		r.run(func(sh *shard) {
			if l := s.linkAt(sh); l != nil && !yes {
				_, yes = sh.outcome(l, op)
			}
		})
	}
	return yes
}
