package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/replyq/replyq/journal"
)

// When another replica takes over. It comes by itself (journal.ErrDeposed: it has been there already), or because this one
// gives way (Leave). Either way all sessions are cut off, those too that wait for nothing just now: here nothing will come.

// ownerRetry is how long clients shall wait for the next owner: it is about to serve.
const ownerRetry = 100 * time.Millisecond

func errOwnerChanged() *Error {
	return &Error{
		Code: CodeUnavailable, Reason: ReasonOwnerChanged, RetryAfter: ownerRetry, OutcomeUnknown: true,
		Text: "another replica serves now: whether the request was carried out is not known; come back and repeat it",
	}
}

// Over says why nobody shall come back here, because another owner has taken over, or is about to; nil if that is not so.
func (b *Broker) Over() *Error { return b.over.Load() }

// journalEnded is called when a shard's journal has ended with an error.
func (b *Broker) journalEnded(shard uint16, err error) {
	if !errors.Is(err, journal.ErrDeposed) {
		b.log.Error("the journal failed: nothing more is confirmed", slog.Int("shard", int(shard)), slog.Any("error", err))
		b.fail(err)
		return
	}
	b.log.Info("another owner has taken over: nothing more is confirmed", slog.Int("shard", int(shard)), slog.Any("reason", err))
	b.endKeepers(err)
	b.cutSessions()
	b.fail(err)
}

// Abandon says that nothing is kept any more, in any shard: what waits ends with JOURNAL_FAILED, and so does what comes from
// now on. Without it a server that ends because of one journal would go on confirming what others keep, and refusing the
// rest.
func (b *Broker) Abandon(err error) { b.endKeepers(err) }

// endKeepers ends all keepers: what is not kept will not be.
func (b *Broker) endKeepers(err error) {
	for _, r := range b.runners {
		if r.keeper == nil {
			continue
		}
		r.mu.Lock()
		if r.keeper.failed == nil {
			r.keeper.failLocked(err)
		}
		r.mu.Unlock()
		r.keeper.cancel()
	}
}

// cutSessions cuts off all sessions, when the broker is over.
func (b *Broker) cutSessions() {
	b.sessionsMu.Lock()
	defer b.sessionsMu.Unlock()
	for s := range b.attachedNow {
		s.cutOff(b.over.Load())
	}
}

// cutOver cuts the session off because the broker is over; while it is leaving that comes later.
func (s *Session) cutOver(over *Error) {
	if !s.broker.leaving.Load() {
		s.cutOff(over)
	}
}

// Leave gives way to another owner, as fast as it can: no operation is taken any more, what was accepted is kept and its
// events wait in their sessions, and then every session is cut off with OWNER_CHANGED and the journals are closed. When ctx
// ends first, what is not kept by then is not waited for; nobody was told of it. Leases, readers and time stand still until
// the next owner goes on. The broker is closed then.
func (b *Broker) Leave(ctx context.Context) error {
	b.leaving.Store(true)
	b.over.CompareAndSwap(nil, errOwnerChanged())
	var flushes sync.WaitGroup
	for _, r := range b.runners {
		r.run(func(s *shard) {
			s.drain()
			s.frozen = true
		})
		if r.keeper != nil {
			flushes.Go(func() { r.keeper.flush() })
		}
	}
	giveUp := context.AfterFunc(ctx, func() { b.endKeepers(ctx.Err()) })
	flushes.Wait()
	giveUp()
	b.leaving.Store(false)
	b.cutSessions()
	return b.Close()
}
