package broker

import (
	"fmt"
	"iter"

	"github.com/replyq/replyq/journal"
)

// A Standby is the durable state of all shards as far as their journals were read while another owner still writes to them.
// [Open] goes on from there, so that who takes over has little left to read.
type Standby struct{ shards []standbyShard }

// A standbyShard is one shard of it. Records that the owner has carried forward and trimmed meanwhile are in it twice, which
// does no harm: applying them again changes nothing, and that bytes is too high ends with the next round.
type standbyShard struct {
	st    *state
	bytes int64
	next  journal.Position // 0: nothing was read
}

// NewStandby returns a standby that has read nothing, for a store with so many shards.
func NewStandby(store uint32, shards int) *Standby {
	s := &Standby{shards: make([]standbyShard, shards)}
	for i := range s.shards {
		s.shards[i].st = newState(uint16(i), store)
	}
	return s
}

// Replay applies what follows in a shard's journal, from its beginning in the first call. Different shards may be replayed
// by different goroutines. After an error the standby is of no use any more.
func (s *Standby) Replay(shard int, records iter.Seq2[journal.Record, error]) error {
	t := &s.shards[shard]
	for record, err := range records {
		if err == nil {
			err = t.apply(record)
		}
		if err != nil {
			return fmt.Errorf("broker: read along shard %d: %w", shard, err)
		}
	}
	return nil
}

func (t *standbyShard) apply(record journal.Record) error {
	t.bytes += int64(len(record.Batch))
	t.next = record.Position + 1
	return t.st.replay(record.Batch)
}

// Read is how much was read of all journals so far. It may not be called beside Replay.
func (s *Standby) Read() (all Restored) {
	for i := range s.shards {
		t := &s.shards[i]
		all.Bytes += t.bytes
		all.Messages += t.st.messages.replayed
		all.Pipes += t.st.pipes.replayed
	}
	return all
}
