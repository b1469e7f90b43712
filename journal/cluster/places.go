package cluster

import (
	"slices"
	"sort"

	"github.com/replyq/replyq/journal"
)

// places knows where in the stream the batches are that were appended or read, in order.
type places struct {
	at []place
}

type place struct {
	position journal.Position
	sequence uint64
}

func (p *places) add(position journal.Position, sequence uint64) {
	i := sort.Search(len(p.at), func(i int) bool { return p.at[i].position >= position })
	if i == len(p.at) || p.at[i].position != position {
		p.at = slices.Insert(p.at, i, place{position, sequence})
	}
}

// before returns the highest sequence known to be at or before a position's, or 0, and forgets what is older.
func (p *places) before(position journal.Position) uint64 {
	i := sort.Search(len(p.at), func(i int) bool { return p.at[i].position > position })
	if i == 0 {
		return 0
	}
	p.at = slices.Delete(p.at, 0, i-1)
	return p.at[0].sequence
}
