package broker

import (
	"cmp"
	"maps"
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

// Records: facts that say all there is about an entity. Applying one gives the entity as it was when it was made.

func (q *queue) record() *factpb.QueueKept {
	f := &factpb.QueueKept{
		Created: &factpb.QueueCreated{Number: q.number, Tenant: q.tenant, Name: q.name, At: int64(q.created)}, Deleted: q.deleted,
	}
	if q.config != &defaultConfig {
		f.Configured = q.given.fact(q.number)
	}
	return f
}

func (m *message) record(slot uint32) *factpb.MessageKept {
	f := &factpb.MessageKept{
		Enqueued: &factpb.Enqueued{
			Slot: slot, Tag: m.tag, Nonce: m.nonce, Queue: m.queue, Order: m.order, Body: m.body, At: int64(m.enqueued),
			Deadline: int64(m.deadline), Handles: handleFacts(m.handles()), OwnReplyTo: m.ownReplyTo,
			ReplyToShard: uint32(m.replyTo.shard), ReplyToSlot: m.replyTo.slot, ReplyToNonce: m.replyTo.nonce,
			ReplyToEnded: m.replyToEnded, Priority: uint32(m.priority()), Group: m.group(), RequireConsumer: m.requireConsumer,
		},
		State: uint32(m.state), Until: int64(m.until), Since: int64(m.since), Attempt: m.attempt, Failures: m.failures,
		Principal: m.principal, Grace: uint32(m.grace), Consumer: uint32(m.consumer),
	}
	if e := m.extras; e != nil {
		f.DeadReason, f.AgesFrom = uint32(e.deadReason), int64(e.agesFrom)
		for _, a := range e.history {
			f.History = append(f.History, &factpb.Attempt{
				Number: a.number, Consumer: a.consumer, From: int64(a.from), Until: int64(a.until), Text: a.text,
			})
		}
	}
	return f
}

// pipeRecord makes the record of a pipe, with its relatives.
func (st *state) pipeRecord(slot uint32) *factpb.PipeKept {
	p := st.pipes.at(slot)
	f := &factpb.PipeKept{
		Opened: &factpb.PipeOpened{
			Slot: slot, Nonce: p.nonce, Tenant: p.tenant, Deadline: int64(p.deadline), ByCall: p.byCall, Outside: p.outside,
			KeepIfAbandoned: p.keep, Grace: int64(p.options.grace), Retain: int64(p.options.retain),
			CapacityReplies: p.options.capReplies, CapacityBytes: p.options.capBytes,
		},
		State: uint32(p.state), Bare: p.bare, Read: p.read, ReadAt: int64(p.readAt),
	}
	for i := range p.carriers.len() {
		c := p.carriers.at(i)
		f.Carriers = append(f.Carriers, &factpb.CarrierKept{
			Carrier: c.fact(), Receive: c.receive, ReplyTo: c.replyTo, Replied: c.replied,
		})
	}
	if p.related {
		r := st.relatives[slot]
		if !r.parent.isZero() {
			f.Opened.Parent = r.parent.fact()
		}
		for _, child := range slices.SortedFunc(maps.Keys(r.children), comparePipes) {
			f.Children = append(f.Children, child.fact())
		}
	}
	rare := p.rare()
	if p.state == pipeEnded {
		f.Ended = &factpb.PipeEnded{Reason: uint32(p.reason), Body: rare.endBody, Text: rare.endText, ReplyId: rare.endID}
	}
	if p.content == nil {
		return f
	}
	f.First = p.content.first
	for i := range p.replies() {
		f.Replies = append(f.Replies, p.replies()[i].record())
	}
	if !rare.inner.isZero() {
		f.Inner = rare.inner.fact()
	}
	for _, fd := range rare.feeds {
		f.Feeds = append(f.Feeds, &factpb.Feeding{Outer: fd.outer.fact(), Next: fd.next, Credit: fd.credit})
	}
	for _, k := range rare.known {
		f.Known = append(f.Known, &factpb.Replied{Sequence: k.sequence, ReplyId: k.id})
	}
	return f
}

func comparePipes(a, b pipeRef) int {
	return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.slot, b.slot))
}

func (r *reply) record() *factpb.Replied {
	return &factpb.Replied{
		Body: r.body, Attempt: r.attempt, Handles: handleFacts(r.handles),
		SourceShard: uint32(r.source.Shard), SourceSlot: r.source.Slot, SourceTag: r.source.Tag,
	}
}

func (o *outcomes) record(number uint32) *factpb.SessionKept {
	f := &factpb.SessionKept{
		Opened: &factpb.SessionOpened{Number: number, Key: []byte(o.key)}, AnsweredBelow: o.below,
		Outcomes: make([]*factpb.Outcome, len(o.entries)),
	}
	for i := range o.entries {
		one := new(factpb.Outcome)
		o.entries[i].fill(one)
		one.Op = &factpb.OpRef{Operation: o.entries[i].op}
		f.Outcomes[i] = one
	}
	return f
}

func (u *usedKey) record() *factpb.KeyUsed {
	return &factpb.KeyUsed{
		Queue: u.ref.queue, Key: u.ref.id[:], Content: u.content[:], Principal: u.principal, At: int64(u.at), MessageSlot: u.slot,
		MessageTag: u.tag, PipeSlot: u.pipeSlot, PipeNonce: u.nonce, PipeDeadline: int64(u.deadline), Number: u.number, Tenant: u.tenant,
	}
}

func settledRecord(some []settledLease) *factpb.SettledKept {
	f := &factpb.SettledKept{}
	for _, e := range some {
		f.Nonces, f.Attempts = append(f.Nonces, e.nonce), append(f.Attempts, uint32(e.attempt))
		f.Actions, f.Dead = append(f.Actions, uint32(e.action)), append(f.Dead, e.dead)
		f.At = append(f.At, int64(e.at))
	}
	return f
}

// record says what is not in the records of entities or in lists.
func (st *state) record() *factpb.ShardKept {
	f := &factpb.ShardKept{Order: st.order, KeysBelow: st.keys.dropped + uint64(st.keys.start)}
	for _, q := range st.freeQueues {
		f.Forgotten = append(f.Forgotten, &factpb.QueueForgotten{Queue: q.number, At: int64(q.at)})
	}
	for _, source := range slices.Sorted(maps.Keys(st.inbox)) {
		f.Inbox = append(f.Inbox, &factpb.InboxAdvanced{Source: uint32(source), Number: st.inbox[source]})
	}
	for _, target := range slices.Sorted(maps.Keys(st.outbox)) {
		o := st.outbox[target]
		f.Outboxes = append(f.Outboxes, &factpb.OutboxKept{Target: uint32(target), Last: o.last, Received: o.received})
	}
	return f
}
