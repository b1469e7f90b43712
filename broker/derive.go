package broker

import (
	"cmp"
	"fmt"
	"slices"
)

// derive puts right what derives from the entities, after a replay: a head of the journal that was trimmed may have left
// it wrong meanwhile.
func (st *state) derive() error {
	st.replaying = false
	if err := st.deriveDead(); err != nil {
		return err
	}
	st.deriveCarriers()
	st.settled.sort()
	st.keys.sort()
	if n := len(st.keys.entries); n > 0 && st.keys.entries[n-1].number != st.keys.next()-1 {
		return errIncomplete("idempotency keys")
	}
	st.deriveUsage()
	return nil
}

func errIncomplete(what string) error {
	return fmt.Errorf("broker: the journal lacks facts (%s): a part of it was lost, or two servers wrote to it", what)
}

// deriveDead makes the lists of dead messages, and checks that every message has a queue.
func (st *state) deriveDead() error {
	byQueue := make(map[uint32][]uint32)
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		m := st.message(slot)
		if m == nil {
			continue
		}
		if st.queueAt(m.queue) == nil {
			return errIncomplete(fmt.Sprintf("queue %d of a message", m.queue))
		}
		if m.state == messageDead {
			byQueue[m.queue] = append(byQueue[m.queue], slot)
		}
	}
	for number, slots := range byQueue {
		slices.SortFunc(slots, func(a, b uint32) int {
			ma, mb := st.messages.at(a), st.messages.at(b)
			return cmp.Or(cmp.Compare(ma.until, mb.until), cmp.Compare(ma.order, mb.order))
		})
		st.queues[number].dead = slots
	}
	return nil
}

// deriveCarriers finds the carriers in this shard of its pipes again. Those in other shards are facts of the pipes.
func (st *state) deriveCarriers() {
	type key struct {
		pipe uint32
		carrierRef
	}
	replied := make(map[key]uint32)
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		p := st.pipeAt(slot)
		if p == nil {
			continue
		}
		old := p.carriers
		p.carriers = carriers{}
		for i := range old.len() {
			c := *old.at(i)
			if c.shard != st.shard {
				p.carriers.add(c)
			} else if c.replied != 0 {
				replied[key{slot, c.carrierRef}] = c.replied
			}
		}
	}
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		if m := st.message(slot); m != nil && m.state != messageDead {
			st.carry(slot, m)
		}
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		p := st.pipeAt(slot)
		if p == nil {
			continue
		}
		for i, r := range p.replies() {
			st.addCarriers(r.handles, carrierRef{reply: true, shard: st.shard, slot: slot, number: p.first() + uint64(i)})
		}
	}
	for k, attempt := range replied {
		p := st.pipes.at(k.pipe)
		for i := range p.carriers.len() {
			if c := p.carriers.at(i); c.carrierRef == k.carrierRef && !c.receive {
				c.replied = attempt
			}
		}
	}
}

// deriveUsage counts what there is.
func (st *state) deriveUsage() {
	st.usage = newUsage()
	for _, q := range st.queues {
		if q != nil {
			st.usage.add(q.tenant, KeptMessages, queueSize)
		}
	}
	for slot := uint32(1); slot <= st.messages.top; slot++ {
		if m := st.message(slot); m != nil {
			st.count(m, +1)
		}
	}
	for slot := uint32(1); slot <= st.pipes.top; slot++ {
		if p := st.pipeAt(slot); p != nil {
			st.countPipe(p)
		}
	}
	for _, o := range st.sessions {
		if o != nil {
			st.usage.add(tenantOfKey(o.key), KeptOutcomes, sessionSize+outcomeSize*cap(o.entries))
		}
	}
	for i := range st.keys.entries {
		st.usage.add(st.keys.entries[i].tenant, KeptOutcomes, keySize)
	}
}

func (st *state) countPipe(p *pipe) {
	open := 1
	if p.state == pipeEnded {
		open = 0
	}
	st.usage.addPipes(p.tenant, open, p.size())
	if p.content == nil {
		return
	}
	size := p.content.restSize()
	for i := range p.replies() {
		size += p.replies()[i].size()
	}
	st.usage.add(p.tenant, KeptPipes, size)
}
