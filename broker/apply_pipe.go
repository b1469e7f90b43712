package broker

import (
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

func (st *state) applyPipeOpened(f *factpb.PipeOpened) {
	p := st.putOpened(f)
	st.usage.addPipes(p.tenant, +1, p.size())
}

func (st *state) putOpened(f *factpb.PipeOpened) *pipe {
	st.pipes.grow(f.Slot)
	p := st.pipes.at(f.Slot)
	if st.replaying && p.state == pipeFree {
		st.pipes.replayed++
	}
	*p = pipe{
		state: pipeOpen, nonce: f.Nonce, tenant: f.Tenant, deadline: Time(f.Deadline),
		byCall: f.ByCall, outside: f.Outside, keep: f.KeepIfAbandoned, options: &defaultPipeConfig,
		live: p.live,
	}
	options := pipeConfig{
		grace: Time(f.Grace), retain: Time(f.Retain), capReplies: f.CapacityReplies, capBytes: f.CapacityBytes,
	}
	if options != defaultPipeConfig {
		own := options // a variable of its own: only this one lies in the heap
		p.options = &own
	}
	if f.Parent != nil {
		st.relate(f.Slot).parent = refOf(f.Parent)
	}
	return p
}

func (st *state) applyReplied(f *factpb.Replied) {
	p := st.pipeAt(f.Pipe)
	if p == nil {
		return
	}
	r := st.putReply(p, f)
	st.usage.add(p.tenant, KeptPipes, r.size())
	st.rememberReply(p, f.ReplyId, f.Sequence)
	if !p.noteReplied(r.source, r.attempt) {
		p.bare = true
	}
	st.addCarriers(r.handles, carrierRef{reply: true, shard: st.shard, slot: f.Pipe, number: f.Sequence})
}

// putReply puts a reply at the end of those that a pipe has.
func (st *state) putReply(p *pipe, f *factpb.Replied) reply {
	r := reply{body: f.Body, attempt: f.Attempt, handles: handlesOf(f.Handles)}
	if f.SourceTag != 0 {
		r.source = MessageID{Store: st.store, Shard: uint16(f.SourceShard), Slot: f.SourceSlot, Tag: f.SourceTag}
	}
	c := st.contentOf(p)
	c.push(r)
	c.bytes += uint64(len(f.Body))
	return r
}

// noteReplied marks the carriers that are the message whose consumer replied, so that its ack ends the pipe OK: it may
// carry the handle more than once.
func (p *pipe) noteReplied(source MessageID, attempt uint32) (found bool) {
	for i := range p.carriers.len() {
		c := p.carriers.at(i)
		if !c.reply && !c.receive && c.shard == source.Shard && c.slot == source.Slot && c.number == uint64(source.Tag) {
			c.replied, found = attempt, true
		}
	}
	return found
}

// rememberReply notes the sequence of a reply that had an id.
func (st *state) rememberReply(p *pipe, id string, sequence uint64) {
	if id == "" {
		return
	}
	r := st.rareOf(p)
	added := knownSize + heapSize(len(id))
	if len(r.known) == maxKnownReplies {
		added -= knownSize + heapSize(len(r.known[0].id))
		r.known = slices.Delete(r.known, 0, 1)
	}
	r.known = append(r.known, byID{id, sequence})
	st.usage.add(p.tenant, KeptPipes, added)
}

func (st *state) applyPipeEnded(f *factpb.PipeEnded) {
	p := st.pipeAt(f.Pipe)
	if p == nil {
		return
	}
	p.state, p.reason = pipeEnded, EndReason(f.Reason)
	st.usage.addPipes(p.tenant, -1, 0)
	st.noteEnd(p, f)
	if p.related {
		p.related = false
		delete(st.relatives, f.Pipe)
	}
}

func (st *state) applyPipeForgotten(f *factpb.PipeForgotten) {
	p := st.pipeAt(f.Pipe)
	if p == nil {
		return
	}
	st.trim(f.Pipe, p.last()+1)
	st.dropContent(p)
	st.usage.add(p.tenant, KeptPipes, -p.size())
	*p = pipe{live: p.live}
	if st.replaying {
		st.pipes.replayed--
		return
	}
	st.pipes.give(f.Pipe)
}

// noteEnd keeps what an end has beyond its reason.
func (st *state) noteEnd(p *pipe, f *factpb.PipeEnded) {
	if len(f.Body) == 0 && f.Text == "" && f.ReplyId == "" && p.inner().isZero() {
		return
	}
	r := st.rareOf(p)
	r.endBody, r.endText, r.endID, r.inner = f.Body, f.Text, f.ReplyId, pipeRef{}
	st.usage.add(p.tenant, KeptPipes, heapSize(len(f.Body))+heapSize(len(f.Text))+heapSize(len(f.ReplyId)))
}

// trim drops the replies of a pipe before first, and with them the carriers that they were.
func (st *state) trim(slot uint32, first uint64) {
	p := st.pipeAt(slot)
	if p == nil || p.content == nil {
		return // there is nothing
	}
	c := p.content
	n := int(first - c.first)
	freed := 0
	for i := range n {
		r := &c.replies[c.head+i]
		c.bytes -= uint64(len(r.body))
		freed += r.size()
		st.dropCarriers(r.handles, carrierRef{reply: true, shard: st.shard, slot: slot, number: c.first + uint64(i)})
		*r = reply{}
	}
	c.head += n
	c.first = first
	st.usage.add(p.tenant, KeptPipes, -freed)
}

func (st *state) applyFeeding(f *factpb.Feeding) {
	p := st.pipeAt(f.Pipe)
	if p == nil {
		return
	}
	r := st.rareOf(p)
	outer := refOf(f.Outer)
	i := slices.IndexFunc(r.feeds, func(fd feed) bool { return fd.outer == outer })
	switch {
	case f.Next == 0 && i >= 0:
		r.feeds = slices.Delete(r.feeds, i, i+1)
	case f.Next == 0:
	case i < 0:
		r.feeds = append(r.feeds, feed{outer, f.Next, f.Credit})
	default:
		r.feeds[i].next, r.feeds[i].credit = f.Next, f.Credit
	}
}

// applyPipeKept puts a pipe as it is in the place of what is known of it.
func (st *state) applyPipeKept(f *factpb.PipeKept) {
	slot := f.Opened.Slot
	delete(st.relatives, slot)
	p := st.putOpened(f.Opened)
	p.state, p.bare, p.read, p.readAt = pipeState(f.State), f.Bare, f.Read, Time(f.ReadAt)
	for _, c := range f.Carriers {
		p.carriers.add(carrier{carrierOf(c.Carrier), c.Receive, c.ReplyTo, c.Replied})
	}
	if f.First > 0 {
		st.contentOf(p).first = f.First
		for _, r := range f.Replies {
			st.putReply(p, r)
		}
	}
	for _, k := range f.Known {
		st.rememberReply(p, k.ReplyId, k.Sequence)
	}
	if f.Ended != nil {
		p.reason = EndReason(f.Ended.Reason)
		st.noteEnd(p, f.Ended)
	}
	if f.Inner != nil {
		st.rareOf(p).inner = refOf(f.Inner)
	}
	for _, fd := range f.Feeds {
		r := st.rareOf(p)
		r.feeds = append(r.feeds, feed{refOf(fd.Outer), fd.Next, fd.Credit})
	}
	for _, child := range f.Children {
		st.relate(slot).addChild(refOf(child))
	}
}
