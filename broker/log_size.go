package broker

import "github.com/replyq/replyq/journal"

// A logSize watches how long a shard's journal is, and has what is live carried forward when it has become too long, so
// that its head can be trimmed.
//
// Its fields are guarded by the runner's lock.
type logSize struct {
	slack int64 // how much longer than what is live it may be
	// Each append carries at least so many bytes of records, and twice what it has of its own, but no more than most.
	least, most int

	bytes int64  // in the journal
	round *round // nil: none is under way

	begun     bool             // the round's first record is in a batch
	start     journal.Position // of that batch
	bytesThen int64            // in the journal before that batch
}

const (
	// defaultSlack lets a journal be so much longer than what is live: rounds are rare where little is.
	defaultSlack = 64 << 20
	// An append carries twice what it has of its own, so that the journal grows by half of what is live in a round; at least
	// 64 KiB, so that the round ends soon; and no more than takes a few milliseconds.
	leastCarried = 64 << 10
	mostCarried  = 2 << 20
)

// carry adds records to a batch that is about to be appended, if it is time for them, or if they must be. It reports
// whether the last of a round is in it.
func (l *logSize) carry(st *state, batch []byte, must bool) (_ []byte, over bool) {
	if l.round == nil {
		live := st.liveBytes()
		if l.bytes <= live+live/2+l.slack && !must {
			return batch, false
		}
		l.round, l.begun = &round{}, false
	}
	return st.carryForward(l.round, batch, min(max(l.least, 2*len(batch)), l.most))
}

// appended notes a batch that was kept. It tells from where on the journal is needed, 0 if that has not changed.
func (l *logSize) appended(at journal.Position, size int, carried, over bool) (needed journal.Position) {
	if carried && !l.begun {
		l.begun, l.start, l.bytesThen = true, at, l.bytes
	}
	l.bytes += int64(size)
	if !over {
		return 0
	}
	l.round = nil
	l.bytes -= l.bytesThen
	return l.start
}

// liveBytes is about what records of all there is would take in the journal: what it takes of memory, without the room
// that structures have.
func (st *state) liveBytes() int64 {
	const record, settled = 64, 24
	rest := len(st.settled.entries) * settled
	rest -= st.messages.used()*(messageSize-record) + st.pipes.used()*(pipeSize-record)
	return st.usage.all + int64(rest)
}
