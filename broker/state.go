package broker

// state is what a shard's facts add up to: applying the same facts in the same order gives the same state. Only apply
// changes it, live and in replay. What is not in here is volatile: readers, consumers, credit, timers, statistics.
type state struct {
	shard uint16
	store uint32

	queues []*queue // by number; 0 is unused; nil where forgotten
	byName map[queueKey]*queue
	// freeQueues are numbers of forgotten queues, oldest first.
	freeQueues []freeQueue
	messages   slab[message]
	pipes      slab[pipe]
	// freeContents are those of forgotten pipes, to be used again.
	freeContents []*content

	sessions     []*outcomes // by number; 0 is unused; nil where forgotten
	sessionByKey map[string]uint32

	outbox map[uint16]*outbox
	inbox  map[uint16]uint64 // highest number applied, by source shard

	relatives map[uint32]*relatives // of pipes, by slot

	settled settledLeases
	keys    usedKeys
	order   uint64 // the highest place given to a message

	usage usage

	// replaying says that facts come from the journal: what derives from entities is put right behind them, by derive.
	replaying bool
}

type queueKey struct {
	tenant uint32
	name   string
}

// A queue is a named place where messages wait.
type queue struct {
	number  uint32
	tenant  uint32
	name    string
	created Time
	deleted bool         // has lost its name; its messages are being removed
	config  *QueueConfig // with its defaults; read only
	given   QueueConfig
	dead    []uint32 // slots of dead messages, oldest first

	live liveQueue
}

// freeQueue is the number of a queue that was forgotten.
type freeQueue struct {
	number uint32
	at     Time
}

// queueNumberKept is how long no other queue gets a forgotten one's number: longer than anything is remembered by it.
const queueNumberKept = Time(3600e9)

// nextQueue is the number for a new queue.
func (st *state) nextQueue(now Time) uint32 {
	if len(st.freeQueues) > 0 && st.freeQueues[0].at+queueNumberKept <= now {
		return st.freeQueues[0].number
	}
	return uint32(len(st.queues))
}

// A pipeRef names a pipe in any shard. The zero pipeRef names none: no nonce is 0.
type pipeRef struct {
	shard uint16
	slot  uint32
	nonce uint64
}

func (r pipeRef) isZero() bool { return r.nonce == 0 }

// A carriedHandle is a handle that a message or a reply carries.
type carriedHandle struct {
	name    string
	pipe    pipeRef
	receive bool
	ended   bool // its pipe had ended when it arrived
	// untracked says that another copy of the handle is the carrier.
	untracked bool
	// number is that under which its pipe knows the reply that carries it, where that is in another shard; else 0.
	number uint64
}

func (h *carriedHandle) tracked() bool { return !h.ended && !h.untracked }

type messageState uint8

const (
	messageFree messageState = iota
	messageReserved
	messageReady
	messageDelayed
	messageLeased
	messageDead
)

// A message waits, is in flight, or is dead. A million may wait, so what most do not have is in extras, and the fields are
// in an order without padding.
type message struct {
	nonce     uint64 // of its leases
	order     uint64
	replyTo   pipeRef
	enqueued  Time
	deadline  Time // withdrawn then, unless in flight; 0: never
	until     Time // leased: end of the lease; delayed: end of the delay
	since     Time // leased: since when; before its first delivery: since, or from, when it may be delivered
	body      []byte
	principal string         // of the consumer that has, or had, the lease
	extras    *messageExtras // nil for most

	tag             uint32
	queue           uint32
	attempt         uint32
	failures        uint32
	grace           uint16 // leased: how long the consumer may be away, in seconds
	consumer        uint16 // leased: made of the consumer's id, see consumerNumber; 0: not known
	state           messageState
	ownReplyTo      bool // the reply_to was made by the broker and is not in body
	replyToEnded    bool // its pipe had ended when the message arrived: it is not tracked
	requireConsumer bool // withdrawn when the last consumer leaves before its first delivery

	live liveMessage
}

// outcomes are what a session's operations led to, from its low-water mark on, by rising operation number.
type outcomes struct {
	key     string
	below   uint64
	entries []outcome

	live liveOutcomes
}

// outcomesMost is how many outcomes a session keeps whatever its mark: as many as it can have operations unanswered. Up
// to twice as many are there, see applyOutcome.
const outcomesMost = 8192

type outcomeKind uint8

const (
	outcomeEnqueued outcomeKind = iota + 1
	outcomeReplied
	outcomeSettled
	outcomePipeOpened
	outcomeCancelled
)

// An outcome is how one operation was answered.
type outcome struct {
	op       uint64
	kind     outcomeKind
	reply    ReplyOutcome
	reason   EndReason
	shard    uint16 // of the message
	slot     uint32
	tag      uint32
	pipeSlot uint32
	nonce    uint64 // of the pipe
	sequence uint64
	deadline Time
	dead     bool
	parts    []outcome
}

func newState(shard uint16, store uint32) *state {
	return &state{
		shard: shard, store: store,
		queues:       make([]*queue, 1),
		byName:       make(map[queueKey]*queue),
		sessions:     make([]*outcomes, 1),
		sessionByKey: make(map[string]uint32),
		outbox:       make(map[uint16]*outbox),
		inbox:        make(map[uint16]uint64),
		relatives:    make(map[uint32]*relatives),
		keys:         newUsedKeys(),
		usage:        newUsage(),
	}
}

// pipe finds a pipe of this shard; nil if it is forgotten.
func (st *state) pipe(ref pipeRef) *pipe {
	if ref.shard != st.shard || !st.pipes.has(ref.slot) {
		return nil
	}
	if p := st.pipes.at(ref.slot); p.state != pipeFree && p.nonce == ref.nonce {
		return p
	}
	return nil
}

// carrying finds the message that a carrier of this shard is; nil if it is gone.
func (st *state) carrying(ref carrierRef) *message {
	if ref.reply || ref.shard != st.shard || !st.messages.has(ref.slot) {
		return nil
	}
	if m := st.messages.at(ref.slot); m.state > messageReserved && uint64(m.tag) == ref.number {
		return m
	}
	return nil
}

// reserved finds the slot that is kept for a message which will be that carrier; nil if there is none.
func (st *state) reserved(ref carrierRef) *message {
	if ref.reply || ref.shard != st.shard || !st.messages.has(ref.slot) {
		return nil
	}
	if m := st.messages.at(ref.slot); m.state == messageReserved && uint64(m.tag) == ref.number {
		return m
	}
	return nil
}

func (st *state) messageID(slot, tag uint32) MessageID {
	return MessageID{Store: st.store, Shard: st.shard, Slot: slot, Tag: tag}
}
