package broker

import "math/bits"

// A wheel is a hierarchical timing wheel: it finds the timers that are due in a time that does not grow with how many
// wait. Timers are intrusive: each lives in the entity it belongs to and is named by a timerRef.
//
// Resolution is a millisecond, rounded up: a timer never fires early. Those of one millisecond fire in the order in which
// they were set, so that messages which are delayed until the same time come in as they were sent.
type wheel struct {
	elapsed uint64 // ticks; all timers up to it have fired
	levels  [wheelLevels]wheelLevel
	// node finds the timer of an entity.
	node func(timerRef) *timer
}

const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 8
	tick        = Time(1e6)
)

type wheelLevel struct {
	occupied uint64 // bit i: heads[i] is not empty
	heads    [wheelSlots]timerRef
	tails    [wheelSlots]timerRef
}

// A timerRef names the entity that a timer belongs to.
type timerRef struct {
	kind timerKind
	slot uint32
}

type timerKind uint8

const (
	timerNone timerKind = iota
	timerMessage
	timerPipe
	timerSession
	timerConsumer
	timerKeys
)

// A timer is an entity's place in the wheel. Every message and every pipe has one, so the refs of its neighbours are
// taken apart, which saves the padding.
type timer struct {
	at                 Time // 0: not set
	nextSlot, prevSlot uint32
	nextKind, prevKind timerKind
	level              int8
	bucket             uint8
}

func (t *timer) next() timerRef { return timerRef{t.nextKind, t.nextSlot} }
func (t *timer) prev() timerRef { return timerRef{t.prevKind, t.prevSlot} }

func (t *timer) setNext(ref timerRef) { t.nextKind, t.nextSlot = ref.kind, ref.slot }
func (t *timer) setPrev(ref timerRef) { t.prevKind, t.prevSlot = ref.kind, ref.slot }

func newWheel(now Time, node func(timerRef) *timer) *wheel {
	return &wheel{elapsed: uint64(now / tick), node: node}
}

// set moves the timer of ref to the time at; 0 clears it.
func (w *wheel) set(ref timerRef, at Time) {
	t := w.node(ref)
	if t.at == at {
		return
	}
	if t.at != 0 {
		w.unlink(t)
	}
	t.at = at
	if at != 0 {
		w.link(ref, t)
	}
}

func (w *wheel) link(ref timerRef, t *timer) {
	when := max(uint64((t.at+tick-1)/tick), w.elapsed+1)
	level := (63 - bits.LeadingZeros64((w.elapsed^when)|(wheelSlots-1))) / wheelBits
	level = min(level, wheelLevels-1)
	bucket := (when >> (level * wheelBits)) & (wheelSlots - 1)
	l := &w.levels[level]
	t.level, t.bucket = int8(level), uint8(bucket)
	prev := l.tails[bucket]
	t.setPrev(prev)
	t.setNext(timerRef{})
	if prev.kind != timerNone {
		w.node(prev).setNext(ref)
	} else {
		l.heads[bucket] = ref
	}
	l.tails[bucket] = ref
	l.occupied |= 1 << bucket
}

func (w *wheel) unlink(t *timer) {
	l := &w.levels[t.level]
	next, prev := t.next(), t.prev()
	if prev.kind != timerNone {
		w.node(prev).setNext(next)
	} else {
		l.heads[t.bucket] = next
		if next.kind == timerNone {
			l.occupied &^= 1 << t.bucket
		}
	}
	if next.kind != timerNone {
		w.node(next).setPrev(prev)
	} else {
		l.tails[t.bucket] = prev
	}
	t.setNext(timerRef{})
	t.setPrev(timerRef{})
}

// nextBucket finds the bucket that is due first, and the tick at which it is.
func (w *wheel) nextBucket() (level int, bucket uint64, due uint64, ok bool) {
	for level := range w.levels {
		occupied := w.levels[level].occupied
		if occupied == 0 {
			continue
		}
		shift := level * wheelBits
		here := (w.elapsed >> shift) & (wheelSlots - 1)
		ahead := bits.TrailingZeros64(bits.RotateLeft64(occupied, -int(here)))
		bucket := (here + uint64(ahead)) & (wheelSlots - 1)
		base := w.elapsed &^ (uint64(1)<<(shift+wheelBits) - 1)
		due := base + bucket<<shift
		if due < w.elapsed {
			due += uint64(1) << (shift + wheelBits)
		}
		return level, bucket, due, true
	}
	return 0, 0, 0, false
}

// next returns when expire should be called again; 0 means that no timer is set. It may be before the first timer.
func (w *wheel) next() Time {
	_, _, due, ok := w.nextBucket()
	if !ok {
		return 0
	}
	return Time(due) * tick
}

// expire calls fire for each timer that is due, in the order of their ticks. A timer is cleared before fire is called,
// which may set it again.
func (w *wheel) expire(now Time, fire func(timerRef)) {
	until := uint64(now / tick)
	for {
		level, bucket, due, ok := w.nextBucket()
		if !ok || due > until {
			break
		}
		w.elapsed = max(w.elapsed, due)
		l := &w.levels[level]
		for l.heads[bucket].kind != timerNone {
			ref := l.heads[bucket]
			t := w.node(ref)
			w.unlink(t)
			if t.at > Time(w.elapsed)*tick {
				w.link(ref, t) // not due yet: one level down
				continue
			}
			t.at = 0
			fire(ref)
		}
	}
	w.elapsed = max(w.elapsed, until)
}
