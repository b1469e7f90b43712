package broker

import (
	"cmp"
	"slices"
	"time"

	"github.com/replyq/replyq/broker/factpb"
)

// Idempotency keys: for ten minutes after its first use, a key leads to the message and the pipe that it led to then,
// whatever has become of them.

// keyWindow is how long a key is remembered.
const keyWindow = Time(600e9)

// defaultMaxKeys is how many keys of a tenant are remembered at a time.
const defaultMaxKeys = 1_000_000

// A keyRef names a key: it is the queue's.
type keyRef struct {
	queue uint32
	id    [16]byte
}

// A usedKey is what a key led to.
type usedKey struct {
	ref       keyRef
	content   [16]byte
	principal string
	at        Time
	tenant    uint32
	number    uint64 // its place among all keys that ever were
	slot, tag uint32 // of the message
	pipeSlot  uint32 // 0: no pipe was opened
	nonce     uint64
	deadline  Time // of the pipe
}

// usedKeys are the keys of a shard, in the order of their first use, which is that in which they are forgotten.
type usedKeys struct {
	entries  []usedKey // oldest first, from start on
	start    int
	dropped  uint64            // how many were dropped from the front of entries
	below    uint64            // keys with smaller numbers are forgotten
	number   map[keyRef]uint64 // by key: its place among all that ever were
	byTenant map[uint32]int
}

func newUsedKeys() usedKeys {
	return usedKeys{number: make(map[keyRef]uint64), byTenant: make(map[uint32]int)}
}

func (k *usedKeys) find(ref keyRef) *usedKey {
	n, ok := k.number[ref]
	if !ok {
		return nil
	}
	return &k.entries[n-k.dropped]
}

// oldest is when the oldest key was used; 0 if there is none.
func (k *usedKeys) oldest() Time {
	if k.start == len(k.entries) {
		return 0
	}
	return k.entries[k.start].at
}

func (st *state) applyKeyUsed(f *factpb.KeyUsed) {
	k := &st.keys
	u := usedKey{
		ref: keyRef{f.Queue, [16]byte(f.Key)}, content: [16]byte(f.Content), principal: f.Principal, at: Time(f.At),
		tenant: f.Tenant, number: f.Number, slot: f.MessageSlot, tag: f.MessageTag, pipeSlot: f.PipeSlot, nonce: f.PipeNonce, deadline: Time(f.PipeDeadline),
	}
	k.entries = append(k.entries, u)
	if st.replaying {
		return // they come in any order, and once or more often: see sort
	}
	k.number[u.ref] = u.number
	k.byTenant[u.tenant]++
	st.usage.add(u.tenant, KeptOutcomes, keySize)
}

// next is the number of the next key.
func (k *usedKeys) next() uint64 { return k.dropped + uint64(len(k.entries)) }

// sort puts in order what a replay gave.
func (k *usedKeys) sort() {
	slices.SortFunc(k.entries, func(a, b usedKey) int { return cmp.Compare(a.number, b.number) })
	k.entries = slices.CompactFunc(k.entries, func(a, b usedKey) bool { return a.number == b.number })
	k.entries = slices.DeleteFunc(k.entries, func(u usedKey) bool { return u.number < k.below })
	k.start, k.dropped = 0, k.below
	if len(k.entries) > 0 {
		k.dropped = k.entries[0].number
	}
	for _, u := range k.entries {
		k.number[u.ref] = u.number
		k.byTenant[u.tenant]++
	}
}

// forgetKeys drops the keys with smaller numbers.
func (st *state) forgetKeys(below uint64) {
	k := &st.keys
	if k.below = max(k.below, below); st.replaying {
		return
	}
	for k.dropped+uint64(k.start) < below {
		u := &k.entries[k.start]
		delete(k.number, u.ref)
		st.usage.add(u.tenant, KeptOutcomes, -keySize)
		if k.byTenant[u.tenant]--; k.byTenant[u.tenant] == 0 {
			delete(k.byTenant, u.tenant)
		}
		*u = usedKey{}
		k.start++
	}
	if k.start > len(k.entries)/2 {
		k.dropped += uint64(k.start)
		kept := copy(k.entries, k.entries[k.start:])
		clear(k.entries[kept:])
		k.entries, k.start = k.entries[:kept], 0
	}
}

// keyUsedBefore answers an Enqueue or Call whose key is known, with what the first one led to or with what differs.
func (s *shard) keyUsedBefore(l *link, op *Op, e *Enqueue) bool {
	q := s.st.byName[queueKey{l.session.identity.Tenant, e.Queue}]
	if q == nil {
		return false
	}
	u := s.st.keys.find(keyRef{q.number, e.Key.ID})
	if u == nil || u.at+keyWindow <= s.now {
		return false
	}
	switch {
	case u.content != e.Key.Content:
		s.refuse(l, op.ID, errKeyReused("another request was made with this key: payload, content type, reply_to, handles, or "+
			"whether a pipe is opened differ; use a new key for each request"))
	case u.pipeSlot != 0 && u.principal != l.session.identity.Principal:
		s.refuse(l, op.ID, errKeyReused("another principal made this request, and only that one can come back to its pipe"))
	default:
		o := outcome{
			kind: outcomeEnqueued, shard: s.st.shard, slot: u.slot, tag: u.tag,
			pipeSlot: u.pipeSlot, nonce: u.nonce, deadline: u.deadline,
		}
		s.remember(l, op.ID, o)
		s.enqueueAgain(l, op, e, o)
	}
	return true
}

func errKeyReused(text string) *Error {
	return &Error{Code: CodeAlreadyExists, Reason: ReasonKeyReused, Field: "idempotency_key", Text: text}
}

// checkKeys refuses a new key of a tenant that has too many.
func (s *shard) checkKeys(tenant uint32) *Error {
	if s.st.keys.byTenant[tenant] < s.maxKeys {
		return nil
	}
	return &Error{
		Code: CodeResourceExhausted, Reason: ReasonKeyQuota, Field: "idempotency_key",
		RetryAfter: max(time.Duration(s.st.keys.oldest()+keyWindow-s.now), time.Second),
		Text:       "too many idempotency keys were used within 10 minutes; repeat when the oldest is forgotten, or use fewer",
	}
}

// useKey remembers what a key led to.
func (s *shard) useKey(l *link, e *Enqueue, o outcome) {
	q := s.st.byName[queueKey{l.session.identity.Tenant, e.Queue}]
	s.commit(&factpb.KeyUsed{
		Queue: q.number, Key: e.Key.ID[:], Content: e.Key.Content[:], Principal: l.session.identity.Principal, At: int64(s.now),
		MessageSlot: o.slot, MessageTag: o.tag, PipeSlot: o.pipeSlot, PipeNonce: o.nonce, PipeDeadline: int64(o.deadline),
		Number: s.st.keys.next(), Tenant: q.tenant,
	})
	s.timeKeys()
}

// timeKeys sets the timer for the oldest key.
func (s *shard) timeKeys() {
	at := s.st.keys.oldest()
	if at != 0 {
		at += keyWindow
	}
	s.wheel.set(timerRef{kind: timerKeys}, at)
}

// fireKeys forgets the keys whose time is over.
func (s *shard) fireKeys() {
	k := &s.st.keys
	n := 0
	for _, u := range k.entries[k.start:] {
		if u.at+keyWindow > s.now {
			break
		}
		n++
	}
	if n > 0 {
		s.commit(&factpb.KeysForgotten{Below: k.dropped + uint64(k.start+n)})
	}
	s.timeKeys()
}
