package broker

import (
	"cmp"
	"slices"
	"sort"

	"github.com/replyq/replyq/broker/factpb"
)

// An outbox is what a shard has sent to another one that has not confirmed it.
type outbox struct {
	last     uint64 // highest number given
	received uint64 // highest number confirmed
	entries  []*factpb.Sent
}

func (st *state) outboxTo(target uint32) *outbox {
	o := st.outbox[uint16(target)]
	if o == nil {
		o = &outbox{}
		st.outbox[uint16(target)] = o
	}
	return o
}

func (o *outbox) add(e *factpb.Sent) {
	if n := len(o.entries); n > 0 && e.Number <= o.entries[n-1].Number || e.Number <= o.received {
		o.addAgain(e)
		return
	}
	o.last = max(o.last, e.Number)
	o.entries = append(o.entries, e)
}

// addAgain puts an entry where it belongs, if it is still needed and not known. That happens in a replay only.
func (o *outbox) addAgain(e *factpb.Sent) {
	i, known := slices.BinarySearchFunc(o.entries, e.Number, func(a *factpb.Sent, n uint64) int { return cmp.Compare(a.Number, n) })
	if !known && e.Number > o.received {
		o.entries = slices.Insert(o.entries, i, e)
	}
}

// trim drops what the target has applied.
func (o *outbox) trim(number uint64) {
	o.received = max(o.received, number)
	n := sort.Search(len(o.entries), func(i int) bool { return o.entries[i].Number > number })
	o.entries = slices.Delete(o.entries, 0, n)
}
