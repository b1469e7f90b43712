package broker

import (
	"log/slog"
	"time"
)

// What an append has kept is true: with it, nobody else can have taken the journal over before. What is released without
// one, such as the answer to a question, needs another proof that this broker is still the owner, or its answer may be of
// yesterday: [Config.Lease]. It is asked after the shard was. While it says no, what waits is held, in order, until it says
// yes or an append vouches; when that takes longer than patience it is a stall like any other.

// leasePoll is how often a lease that has lapsed is asked again.
const leasePoll = 20 * time.Millisecond

// A voucher is the part of a keeper that asks for the lease. Its fields are guarded by the runner's lock.
type voucher struct {
	lease  func() bool
	since  time.Time   // something is held since then; zero: nothing is
	lapsed bool        // it is held for too long
	again  *time.Timer // asks again
}

func (k *keeper) startVouching() {
	if k.vouch != nil {
		k.vouch.again = time.AfterFunc(time.Hour, k.askAgain)
		k.vouch.again.Stop()
	}
}

// stopVouching is called with the lock of nobody.
func (k *keeper) stopVouching() {
	if k.vouch != nil && k.vouch.again != nil {
		k.vouch.again.Stop()
	}
}

// vouchedLocked reports whether what was read until now may be said without an append. If not, it is held from now on.
func (k *keeper) vouchedLocked() bool {
	v := k.vouch
	if v == nil || v.lease() {
		return true
	}
	if v.since.IsZero() {
		v.since = time.Now()
		v.again.Reset(leasePoll)
	}
	return false
}

// isHeldLocked reports whether something waits for the lease, behind which the next has to wait too.
func (k *keeper) isHeldLocked() bool { return k.vouch != nil && !k.vouch.since.IsZero() }

func (k *keeper) hasLapsedLocked() bool { return k.vouch != nil && k.vouch.lapsed }

// askAgain is called some time after the lease said no.
func (k *keeper) askAgain() {
	r, v := k.runner, k.vouch
	r.mu.Lock()
	if v.since.IsZero() || k.failed != nil {
		r.mu.Unlock()
		return
	}
	v.again.Reset(leasePoll)
	if v.lease() {
		k.wakeWriter() // which asks as well
		r.mu.Unlock()
		return
	}
	lapses := !v.lapsed && time.Since(v.since) >= k.patience
	if lapses {
		v.lapsed = true
		k.cutWaitingLocked(&k.next, errJournalSlow())
	}
	r.mu.Unlock()
	if lapses {
		r.broker.cutAnswers(r.number, errJournalSlow())
		r.log.Warn("the lease has lapsed: operations are refused until it is renewed",
			slog.Int("shard", int(r.number)), slog.Duration("for", k.patience))
	}
}

// vouchAgainLocked notes that something was released. It tells since when it was held too long; zero if it was not.
func (k *keeper) vouchAgainLocked() (lapsed time.Time) {
	v := k.vouch
	if v == nil || v.since.IsZero() {
		return time.Time{}
	}
	if v.lapsed {
		lapsed = v.since
	}
	v.since, v.lapsed = time.Time{}, false
	v.again.Stop()
	return lapsed
}

// mayRefuseLocked reports whether a session may be told that an operation was not carried out. One that can come back may
// have been elsewhere, and repeat what the next owner has carried out.
func (k *keeper) mayRefuseLocked(s *Session) bool {
	return s.key == "" || k.vouch == nil || k.vouch.lease()
}
