package broker

import (
	"fmt"
	"slices"
	"sort"

	"github.com/replyq/replyq/broker/factpb"
)

// fact is one change of a shard's durable state: a pointer to one of factpb's messages.
type fact any

// apply makes a fact true. It is the only code that changes durable state, live and in replay, so it decides nothing: it
// must not look at time, at volatile state or at anything outside, and it cannot fail.
func (st *state) apply(f fact) {
	switch f := f.(type) {
	case *factpb.Enqueued:
		st.applyEnqueued(f)
	case *factpb.Leased:
		m := st.messages.at(f.Slot)
		if m.attempt == 0 && m.since > m.enqueued {
			st.count(m, -1)
			m.ageFrom(m.since)
			st.count(m, +1)
		}
		m.state, m.attempt, m.until, m.principal, m.since = messageLeased, f.Attempt, Time(f.Until), f.Principal, Time(f.At)
		m.grace = uint16(f.Grace)
	case *factpb.LeaseExtended:
		st.messages.at(f.Slot).until = Time(f.Until)
	case *factpb.Returned:
		st.applyReturned(f)
	case *factpb.Redriven:
		st.applyRedriven(f)
	case *factpb.Gone:
		st.applyGone(f)
	case *factpb.PipeOpened:
		st.applyPipeOpened(f)
	case *factpb.Replied:
		st.applyReplied(f)
	case *factpb.PipeEnded:
		p := st.pipes.at(f.Pipe)
		p.state, p.reason = pipeEnded, EndReason(f.Reason)
		st.usage.addPipes(p.tenant, -1, 0)
		st.noteEnd(p, f)
		if p.related {
			p.related = false
			delete(st.relatives, f.Pipe)
		}
	case *factpb.PipeRead:
		p := st.pipes.at(f.Pipe)
		p.read, p.readAt = true, Time(f.At)
	case *factpb.PipeForgotten:
		p := st.pipes.at(f.Pipe)
		st.trim(f.Pipe, p.last()+1)
		st.dropContent(p)
		st.usage.add(p.tenant, KeptPipes, -p.size())
		*p = pipe{live: p.live}
		st.pipes.give(f.Pipe)
	case *factpb.RepliesTrimmed:
		st.trim(f.Pipe, f.First)
	case *factpb.PipeOutside:
		st.pipes.at(f.Pipe).outside = true
	case *factpb.Outcome:
		st.applyOutcome(f)
	case *factpb.QueueCreated:
		st.applyQueueCreated(f)
	case *factpb.QueueConfigured:
		st.applyQueueConfigured(f)
	case *factpb.QueueDeleted:
		q := st.queues[f.Queue]
		q.deleted = true
		delete(st.byName, queueKey{q.tenant, q.name})
	case *factpb.QueueForgotten:
		st.usage.add(st.queues[f.Queue].tenant, KeptMessages, -queueSize)
		st.queues[f.Queue] = nil
		st.freeQueues = append(st.freeQueues, freeQueue{f.Queue, Time(f.At)})
	case *factpb.SessionOpened:
		st.sessions = append(st.sessions, &outcomes{key: string(f.Key)})
		st.usage.add(tenantOfKey(string(f.Key)), KeptOutcomes, sessionSize)
		st.sessionByKey[string(f.Key)] = f.Number
	case *factpb.SessionForgotten:
		o := st.sessions[f.Number]
		st.usage.add(tenantOfKey(o.key), KeptOutcomes, -sessionSize-outcomeSize*cap(o.entries))
		delete(st.sessionByKey, o.key)
		st.sessions[f.Number] = nil
	case *factpb.CarrierAdded:
		p := st.pipes.at(f.Pipe)
		p.carriers.add(carrier{carrierRef: carrierOf(f.Carrier), receive: f.Receive, replyTo: f.ReplyTo})
	case *factpb.CarrierRemoved:
		st.pipes.at(f.Pipe).carriers.remove(carrierOf(f.Carrier), f.Receive)
	case *factpb.Spliced:
		p := st.pipes.at(f.Pipe)
		p.state = pipeSpliced
		st.rareOf(p).inner = refOf(f.Inner)
		st.rememberReply(p, f.ReplyId, 0)
	case *factpb.Feeding:
		st.applyFeeding(f)
	case *factpb.Sent:
		o := st.outbox[uint16(f.Target)]
		if o == nil {
			o = &outbox{}
			st.outbox[uint16(f.Target)] = o
		}
		o.last = f.Number
		o.entries = append(o.entries, f)
	case *factpb.OutboxTrimmed:
		o := st.outbox[uint16(f.Target)]
		n := sort.Search(len(o.entries), func(i int) bool { return o.entries[i].Number > f.Number })
		o.entries = slices.Delete(o.entries, 0, n)
	case *factpb.InboxAdvanced:
		st.inbox[uint16(f.Source)] = f.Number
	case *factpb.PipeChild:
		st.applyPipeChild(f)
	case *factpb.KeyUsed:
		st.applyKeyUsed(f)
	case *factpb.KeysForgotten:
		st.forgetKeys(int(f.Count))
	default:
		panic(fmt.Sprintf("broker: no such fact: %T", f)) //nolint:forbidigo // unreachable: the kinds are those above
	}
}

func (st *state) applyEnqueued(f *factpb.Enqueued) {
	st.messages.grow(f.Slot)
	m := st.messages.at(f.Slot)
	live := m.live
	*m = message{
		state: messageReady, tag: f.Tag, queue: f.Queue, nonce: f.Nonce, order: f.Order, body: f.Body,
		ownReplyTo: f.OwnReplyTo, replyToEnded: f.ReplyToEnded, requireConsumer: f.RequireConsumer,
		replyTo:  pipeRef{uint16(f.ReplyToShard), f.ReplyToSlot, f.ReplyToNonce},
		enqueued: Time(f.At), deadline: Time(f.Deadline), until: Time(f.NotBefore),
		live: live,
	}
	m.since = m.enqueued
	if m.until != 0 {
		m.state, m.since = messageDelayed, m.until
	}
	if f.Priority != 0 || f.Group != "" {
		m.extras = &messageExtras{priority: uint8(f.Priority), group: f.Group}
	}
	m.setHandles(handlesOf(f.Handles))
	st.order = max(st.order, f.Order)
	st.count(m, +1)
	st.carry(f.Slot, m)
}

// carry adds a message as a carrier of its handles.
func (st *state) carry(slot uint32, m *message) {
	ref := carrierRef{shard: st.shard, slot: slot, number: uint64(m.tag)}
	if !m.replyTo.isZero() && !m.replyToEnded {
		st.addCarrier(m.replyTo, carrier{carrierRef: ref, replyTo: true})
	}
	st.addCarriers(m.handles(), ref)
}

// addCarrier notes that a handle travels. Carriers of another shard's pipes have been added there before.
func (st *state) addCarrier(to pipeRef, c carrier) {
	if p := st.pipe(to); p != nil {
		p.carriers.add(c)
	}
}

func (st *state) addCarriers(handles []carriedHandle, ref carrierRef) {
	for i := range handles {
		if h := &handles[i]; h.tracked() {
			st.addCarrier(h.pipe, carrier{carrierRef: ref, receive: h.receive})
		}
	}
}

func (st *state) dropCarrier(from pipeRef, ref carrierRef, receive bool) {
	if p := st.pipe(from); p != nil {
		p.carriers.remove(ref, receive)
	}
}

func (st *state) dropCarriers(handles []carriedHandle, ref carrierRef) {
	for i := range handles {
		if h := &handles[i]; h.tracked() {
			st.dropCarrier(h.pipe, ref, h.receive)
		}
	}
}

func (st *state) applyQueueCreated(f *factpb.QueueCreated) {
	q := &queue{number: f.Number, tenant: f.Tenant, name: f.Name, created: Time(f.At), config: &defaultConfig}
	if int(f.Number) < len(st.queues) {
		st.queues[f.Number], st.freeQueues = q, st.freeQueues[1:]
	} else {
		st.queues = append(st.queues, q)
	}
	st.byName[queueKey{f.Tenant, f.Name}] = q
	st.usage.add(f.Tenant, KeptMessages, queueSize)
}

func (st *state) applyQueueConfigured(f *factpb.QueueConfigured) {
	q := st.queues[f.Queue]
	q.given = configOf(f)
	effective := q.given.Effective()
	q.config = &effective
	st.trimDead(q)
}

// trimDead drops the oldest dead messages of a queue that has too many.
func (st *state) trimDead(q *queue) {
	n := max(len(q.dead)-int(q.config.MaxDead), 0)
	for _, slot := range q.dead[:n] {
		st.freeMessage(slot)
	}
	q.dead = slices.Delete(q.dead, 0, n)
}

// applyGone removes a message, or keeps it as a dead one. Either way it carries no handle any more.
func (st *state) applyGone(f *factpb.Gone) {
	m := st.messages.at(f.Slot)
	q := st.queues[m.queue]
	if m.state == messageDead {
		st.dropDead(q, f.Slot)
		st.freeMessage(f.Slot)
		return
	}
	if f.Action != 0 || m.attempt > 0 { // a lease that was lost or taken away is remembered as well
		st.settled.add(settledLease{m.nonce, uint16(m.attempt), SettleAction(f.Action), f.Dead, Time(f.At)})
	}
	ref := carrierRef{shard: st.shard, slot: f.Slot, number: uint64(m.tag)}
	if !m.replyTo.isZero() && !m.replyToEnded {
		st.dropCarrier(m.replyTo, ref, false)
	}
	st.dropCarriers(m.handles(), ref)
	if !f.Dead {
		st.freeMessage(f.Slot)
		return
	}
	st.count(m, -1)
	m.note(f.Consumer, f.Text, Time(f.At))
	st.count(m, +1)
	m.state, m.until, m.failures, m.extras.deadReason = messageDead, Time(f.At), f.Failures, EndReason(f.Fate)
	q.dead = append(q.dead, f.Slot)
	st.trimDead(q)
}

// dropDead takes a message off its queue's dead list.
func (st *state) dropDead(q *queue, slot uint32) {
	i := slices.Index(q.dead, slot)
	q.dead = slices.Delete(q.dead, i, i+1)
}

func (st *state) freeMessage(slot uint32) {
	m := st.messages.at(slot)
	st.count(m, -1)
	*m = message{live: m.live}
	st.messages.give(slot)
}

func (st *state) applyPipeOpened(f *factpb.PipeOpened) {
	st.pipes.grow(f.Slot)
	p := st.pipes.at(f.Slot)
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
	st.usage.addPipes(p.tenant, +1, p.size())
	if f.Parent != nil {
		st.relate(f.Slot).parent = refOf(f.Parent)
	}
}

func (st *state) applyReplied(f *factpb.Replied) {
	p := st.pipes.at(f.Pipe)
	r := reply{body: f.Body, attempt: f.Attempt, handles: handlesOf(f.Handles)}
	if f.SourceTag != 0 {
		r.source = MessageID{Store: st.store, Shard: uint16(f.SourceShard), Slot: f.SourceSlot, Tag: f.SourceTag}
	}
	c := st.contentOf(p)
	c.replies = append(c.replies, r)
	if len(c.replies) == len(c.one)+1 {
		c.one = [1]reply{} // has moved
	}
	c.bytes += uint64(len(f.Body))
	st.usage.add(p.tenant, KeptPipes, r.size())
	st.rememberReply(p, f.ReplyId, f.Sequence)
	if !p.noteReplied(r.source, r.attempt) {
		p.bare = true
	}
	st.addCarriers(r.handles, carrierRef{reply: true, shard: st.shard, slot: f.Pipe, number: f.Sequence})
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
	p := st.pipes.at(slot)
	c := p.content
	if c == nil {
		return // there is nothing
	}
	n := int(first - c.first)
	freed := 0
	for i := range n {
		r := &c.replies[i]
		c.bytes -= uint64(len(r.body))
		freed += r.size()
		st.dropCarriers(r.handles, carrierRef{reply: true, shard: st.shard, slot: slot, number: c.first + uint64(i)})
		*r = reply{}
	}
	c.replies = c.replies[n:]
	c.first = first
	st.usage.add(p.tenant, KeptPipes, -freed)
}

func (st *state) applyFeeding(f *factpb.Feeding) {
	r := st.rareOf(st.pipes.at(f.Pipe))
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

func (st *state) applyOutcome(f *factpb.Outcome) {
	o := st.sessions[f.Op.Session]
	room := cap(o.entries)
	o.below = max(o.below, f.Op.AnsweredBelow)
	if i, ok := o.search(f.Op.Operation); ok { // known in part: other shards had something to say
		o.entries[i] = outcomeOf(f)
		return
	}
	// The older half goes at once, when all of it is below the mark or there are too many: so the rest moves down in the
	// memory that there is, and seldom.
	if h := len(o.entries) / 2; h > 0 && (o.entries[h-1].op < o.below || h == outcomesMost) {
		kept := copy(o.entries, o.entries[h:])
		clear(o.entries[kept:])
		o.entries = o.entries[:kept]
	}
	o.entries = append(o.entries, outcomeOf(f))
	if grown := cap(o.entries) - room; grown > 0 {
		st.usage.add(tenantOfKey(o.key), KeptOutcomes, outcomeSize*grown)
	}
	// A reply that waited for room is answered after operations that came later.
	for i := len(o.entries) - 1; i > 0 && o.entries[i].op < o.entries[i-1].op; i-- {
		o.entries[i], o.entries[i-1] = o.entries[i-1], o.entries[i]
	}
}

func outcomeOf(f *factpb.Outcome) outcome {
	o := outcome{
		op: f.Op.GetOperation(), kind: outcomeKind(f.Kind), shard: uint16(f.MessageShard), slot: f.MessageSlot, tag: f.MessageTag,
		pipeSlot: f.PipeSlot, nonce: f.PipeNonce, reply: ReplyOutcome(f.ReplyOutcome), reason: EndReason(f.EndReason),
		sequence: f.Sequence, deadline: Time(f.Deadline), dead: f.Dead,
	}
	for _, part := range f.Parts {
		o.parts = append(o.parts, outcomeOf(part))
	}
	return o
}

// find looks for the outcome of an operation.
func (o *outcomes) find(op uint64) (outcome, bool) {
	if i, ok := o.search(op); ok {
		return o.entries[i], true
	}
	return outcome{}, false
}

func (o *outcomes) search(op uint64) (int, bool) {
	n := len(o.entries)
	if n == 0 || o.entries[n-1].op < op { // as a rule
		return n, false
	}
	i := sort.Search(n, func(i int) bool { return o.entries[i].op >= op })
	return i, o.entries[i].op == op
}

func refOf(r *factpb.PipeRef) pipeRef {
	if r == nil {
		return pipeRef{}
	}
	return pipeRef{uint16(r.Shard), r.Slot, r.Nonce}
}

func (r pipeRef) fact() *factpb.PipeRef {
	return &factpb.PipeRef{Shard: uint32(r.shard), Slot: r.slot, Nonce: r.nonce}
}

func carrierOf(c *factpb.CarrierRef) carrierRef {
	if c == nil {
		return carrierRef{}
	}
	return carrierRef{c.Reply, uint16(c.Shard), c.Slot, c.Number}
}

func (c carrierRef) fact() *factpb.CarrierRef {
	return &factpb.CarrierRef{Reply: c.reply, Shard: uint32(c.shard), Slot: c.slot, Number: c.number}
}

func handlesOf(hs []*factpb.CarriedHandle) []carriedHandle {
	if len(hs) == 0 {
		return nil
	}
	out := make([]carriedHandle, len(hs))
	for i, h := range hs {
		out[i] = carriedHandle{h.Name, refOf(h.Pipe), h.Receive, h.Ended, h.Untracked, h.Number}
	}
	return out
}

func handleFacts(hs []carriedHandle) []*factpb.CarriedHandle {
	if len(hs) == 0 {
		return nil
	}
	out := make([]*factpb.CarriedHandle, len(hs))
	for i, h := range hs {
		out[i] = &factpb.CarriedHandle{Name: h.name, Pipe: h.pipe.fact(), Receive: h.receive, Ended: h.ended, Untracked: h.untracked, Number: h.number}
	}
	return out
}
