package broker

import "github.com/replyq/replyq/broker/factpb"

// What several shards do together is prepared first, and a crash may come in between. So after a restart, what was
// prepared and never used is taken back, and what is still on its way keeps its place.

// restore makes the volatile side of all shards, after each has read its journal.
func (b *Broker) restore() {
	for _, r := range b.runners {
		r.shard.st.eachUnreceived(b, func(target *state, e *factpb.Sent) {
			if e.What == sentMessage { // it has told its id
				target.messages.grow(e.Message.Slot)
				m := target.messages.at(e.Message.Slot)
				m.state, m.tag = messageReserved, e.Message.Tag
			}
		})
	}
	_ = b.eachShard(func(r *runner) error {
		r.shard.restore()
		return nil
	})
	known := b.carriersUnderWay()
	for _, r := range b.runners {
		r.shard.dropOrphans(func(c carrierRef) bool { return known[c] || b.carries(c) })
		if r.shard.st.order > 0 {
			r.shard.passOverLost()
		}
	}
}

// eachUnreceived calls f for what a shard has sent and its targets have not received.
func (st *state) eachUnreceived(b *Broker, f func(target *state, e *factpb.Sent)) {
	for number, o := range st.outbox {
		if int(number) >= len(b.runners) {
			continue
		}
		target := b.runners[number].shard.st
		for _, e := range o.entries {
			if e.Number > target.inbox[st.shard] {
				f(target, e)
			}
		}
	}
}

// carriersUnderWay are those that an outbox tells of: their pipes will hear of them.
func (b *Broker) carriersUnderWay() map[carrierRef]bool {
	known := make(map[carrierRef]bool)
	for _, r := range b.runners {
		r.shard.st.eachUnreceived(b, func(target *state, e *factpb.Sent) {
			known[carrierOf(e.Carrier)] = true
			for _, h := range e.Handles {
				known[carrierRef{reply: true, shard: target.shard, slot: e.Pipe.Slot, number: h.Number}] = true
			}
		})
	}
	return known
}

// carries reports whether a carrier is there, or has its place.
func (b *Broker) carries(c carrierRef) bool {
	if int(c.shard) >= len(b.runners) {
		return false
	}
	st := b.runners[c.shard].shard.st
	if !c.reply {
		return st.carrying(c) != nil || st.reserved(c) != nil
	}
	if !st.pipes.has(c.slot) || st.pipes.at(c.slot).state == pipeFree {
		return false
	}
	for _, r := range st.pipes.at(c.slot).replies() {
		for i := range r.handles {
			if r.handles[i].number == c.number {
				return true
			}
		}
	}
	return false
}

// dropOrphans takes the carriers in other shards off its pipes that were prepared there and never stored.
func (s *shard) dropOrphans(there func(carrierRef) bool) {
	for slot := uint32(1); slot <= s.st.pipes.top; slot++ {
		p := s.st.pipes.at(slot)
		if p.state == pipeFree {
			continue
		}
		var orphans []carrier
		for i := range p.carriers.len() {
			if c := *p.carriers.at(i); c.shard != s.st.shard && !there(c.carrierRef) {
				orphans = append(orphans, c)
			}
		}
		for _, c := range orphans {
			s.unhold(s.refAt(slot), c)
		}
	}
}
