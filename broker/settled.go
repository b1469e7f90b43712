package broker

import (
	"cmp"
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

// settledLeases remembers the leases that were settled last, so that settling twice can be told from a wrong lease.
type settledLeases struct {
	entries []settledLease // oldest first, from start on
	start   int
}

type settledLease struct {
	nonce   uint64
	attempt uint16
	action  SettleAction
	dead    bool
	at      Time
}

const (
	settledMost = 1 << 16
	settledKept = Time(60e9)
)

// add remembers a lease. In a replay those known already may come again, in front of others that are not: there is more room
// then, until they are sorted.
func (l *settledLeases) add(e settledLease, replaying bool) {
	l.entries = append(l.entries, e)
	most := settledMost
	if replaying {
		most *= 4
	}
	l.forget(e.at, most)
}

// forget drops what need not be remembered any more: what is old, and the oldest of more than most.
func (l *settledLeases) forget(now Time, most int) {
	for l.start < len(l.entries) && (l.entries[l.start].at+settledKept <= now || len(l.entries)-l.start > most) {
		l.start++
	}
	if l.start > len(l.entries)/2 {
		l.entries = l.entries[:copy(l.entries, l.entries[l.start:])]
		l.start = 0
	}
}

// applyKept adds leases that were settled, which may be known.
func (l *settledLeases) applyKept(f *factpb.SettledKept) {
	for i := range f.Nonces {
		l.entries = append(l.entries, settledLease{
			f.Nonces[i], uint16(f.Attempts[i]), SettleAction(f.Actions[i]), f.Dead[i], Time(f.At[i]),
		})
	}
}

// sort puts in order what came in any order, and once or more often.
func (l *settledLeases) sort() {
	l.entries, l.start = l.entries[l.start:], 0
	slices.SortFunc(l.entries, cmpSettled)
	l.entries = slices.Compact(l.entries)
	if n := len(l.entries); n > 0 {
		l.forget(l.entries[n-1].at, settledMost)
	}
}

// cmpSettled orders by time. A lease may be there twice: what its consumer did comes before what became of the message, and
// that it died before what became of the dead one.
func cmpSettled(a, b settledLease) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.nonce, b.nonce), cmp.Compare(a.attempt, b.attempt), cmp.Compare(b.action, a.action),
		cmp.Compare(rank(a.dead), rank(b.dead)))
}

func rank(dead bool) int {
	if dead {
		return 0
	}
	return 1
}

// find looks for the last settling of a message's lease. It is slow, and only asked when a lease is not in force.
func (l *settledLeases) find(nonce uint64, attempt uint16, now Time) (e settledLease, known bool) {
	for _, e := range l.entries[l.start:] {
		if e.nonce == nonce && e.attempt == attempt && e.at+settledKept > now {
			return e, true
		}
	}
	return settledLease{}, false
}

// knows reports whether any lease of the message was settled a short time ago.
func (l *settledLeases) knows(nonce uint64) bool {
	for _, e := range l.entries[l.start:] {
		if e.nonce == nonce {
			return true
		}
	}
	return false
}
