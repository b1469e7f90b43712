package broker

import (
	"fmt"
	"slices"

	"github.com/replyq/replyq/broker/factpb"
)

// fact is one change of a shard's durable state: a pointer to one of factpb's messages.
type fact any

// apply makes a fact true. It is the only code that changes durable state, live and in replay, so it decides nothing: it
// must not look at time, at volatile state or at anything outside, and it cannot fail.
//
// A fact changes what one entity has, and what derives from that. In a replay the entity may not be known yet, since its
// record comes later: then nothing is changed.
func (st *state) apply(f fact) {
	switch f := f.(type) {
	case *factpb.Enqueued:
		st.applyEnqueued(f)
	case *factpb.Leased:
		st.applyLeased(f)
	case *factpb.LeaseExtended:
		if m := st.message(f.Slot); m != nil {
			m.until = Time(f.Until)
		}
	case *factpb.Returned:
		st.applyReturned(f)
	case *factpb.Redriven:
		st.applyRedriven(f)
	case *factpb.Gone:
		st.applyGone(f)
	case *factpb.MessageKept:
		st.applyMessageKept(f)

	case *factpb.PipeOpened:
		st.applyPipeOpened(f)
	case *factpb.Replied:
		st.applyReplied(f)
	case *factpb.RepliesTrimmed:
		st.trim(f.Pipe, f.First)
	case *factpb.PipeEnded:
		st.applyPipeEnded(f)
	case *factpb.PipeRead:
		if p := st.pipeAt(f.Pipe); p != nil {
			p.read, p.readAt = true, Time(f.At)
		}
	case *factpb.PipeForgotten:
		st.applyPipeForgotten(f)
	case *factpb.PipeOutside:
		if p := st.pipeAt(f.Pipe); p != nil {
			p.outside = true
		}
	case *factpb.CarrierAdded:
		if p := st.pipeAt(f.Pipe); p != nil {
			p.carriers.add(carrier{carrierRef: carrierOf(f.Carrier), receive: f.Receive, replyTo: f.ReplyTo})
		}
	case *factpb.CarrierRemoved:
		if p := st.pipeAt(f.Pipe); p != nil {
			p.carriers.remove(carrierOf(f.Carrier), f.Receive)
		}
	case *factpb.Spliced:
		if p := st.pipeAt(f.Pipe); p != nil {
			p.state = pipeSpliced
			st.rareOf(p).inner = refOf(f.Inner)
			st.rememberReply(p, f.ReplyId, 0)
		}
	case *factpb.Feeding:
		st.applyFeeding(f)
	case *factpb.PipeChild:
		st.applyPipeChild(f)
	case *factpb.PipeKept:
		st.applyPipeKept(f)

	case *factpb.SessionOpened:
		st.applySessionOpened(f)
	case *factpb.SessionForgotten:
		st.applySessionForgotten(f)
	case *factpb.Outcome:
		st.applyOutcome(f)
	case *factpb.SessionKept:
		st.applySessionKept(f)

	case *factpb.QueueCreated:
		st.applyQueueCreated(f)
	case *factpb.QueueConfigured:
		st.applyQueueConfigured(f)
	case *factpb.QueueDeleted:
		st.applyQueueDeleted(f)
	case *factpb.QueueForgotten:
		st.applyQueueForgotten(f)
	case *factpb.QueueKept:
		st.applyQueueKept(f)

	case *factpb.Sent:
		st.outboxTo(f.Target).add(f)
	case *factpb.OutboxTrimmed:
		st.outboxTo(f.Target).trim(f.Number)
	case *factpb.InboxAdvanced:
		st.inbox[uint16(f.Source)] = max(st.inbox[uint16(f.Source)], f.Number)
	case *factpb.KeyUsed:
		st.applyKeyUsed(f)
	case *factpb.KeysForgotten:
		st.forgetKeys(f.Below)
	case *factpb.SettledKept:
		st.settled.applyKept(f)
	case *factpb.ShardKept:
		st.applyShardKept(f)
	default:
		panic(fmt.Sprintf("broker: no such fact: %T", f)) //nolint:forbidigo // unreachable: the kinds are those above
	}
}

// message finds the message in a slot; nil if there is none that is known.
func (st *state) message(slot uint32) *message {
	if !st.messages.has(slot) {
		return nil
	}
	if m := st.messages.at(slot); m.state > messageReserved {
		return m
	}
	return nil
}

// pipeAt finds the pipe in a slot; nil if there is none that is known.
func (st *state) pipeAt(slot uint32) *pipe {
	if !st.pipes.has(slot) {
		return nil
	}
	if p := st.pipes.at(slot); p.state != pipeFree {
		return p
	}
	return nil
}

// queueAt finds a queue by its number; nil if there is none that is known.
func (st *state) queueAt(number uint32) *queue {
	if int(number) >= len(st.queues) {
		return nil
	}
	return st.queues[number]
}

// sessionAt finds a session's outcomes by its number; nil if there is none that is known.
func (st *state) sessionAt(number uint32) *outcomes {
	if int(number) >= len(st.sessions) {
		return nil
	}
	return st.sessions[number]
}

// set puts an element into a list that has holes.
func set[T any](list *[]*T, i uint32, v *T) {
	for int(i) >= len(*list) {
		*list = append(*list, nil)
	}
	(*list)[i] = v
}

func (st *state) applyQueueCreated(f *factpb.QueueCreated) {
	st.putQueue(&queue{number: f.Number, tenant: f.Tenant, name: f.Name, created: Time(f.At), config: &defaultConfig})
}

// putQueue takes a queue in, instead of what is known of it.
func (st *state) putQueue(q *queue) {
	if st.queueAt(q.number) == nil {
		st.usage.add(q.tenant, KeptMessages, queueSize)
	}
	if int(q.number) < len(st.queues) { // it may be free: as a rule it is the first that is
		is := func(free freeQueue) bool { return free.number == q.number }
		if i := slices.IndexFunc(st.freeQueues, is); i >= 0 {
			st.freeQueues = slices.Delete(st.freeQueues, i, i+1)
		}
	}
	set(&st.queues, q.number, q)
	if !q.deleted {
		st.byName[queueKey{q.tenant, q.name}] = q
	}
}

func (st *state) applyQueueConfigured(f *factpb.QueueConfigured) {
	if q := st.queueAt(f.Queue); q != nil {
		q.configure(f)
	}
}

func (q *queue) configure(f *factpb.QueueConfigured) {
	q.given = configOf(f)
	effective := q.given.Effective()
	q.config = &effective
}

func (st *state) applyQueueDeleted(f *factpb.QueueDeleted) {
	if q := st.queueAt(f.Queue); q != nil {
		q.deleted = true
		delete(st.byName, queueKey{q.tenant, q.name})
	}
}

func (st *state) applyQueueForgotten(f *factpb.QueueForgotten) {
	if q := st.queueAt(f.Queue); q != nil {
		st.usage.add(q.tenant, KeptMessages, -queueSize)
		st.queues[f.Queue] = nil
	}
	st.freeQueue(f)
}

// freeQueue notes that a queue's number is nobody's. All numbers below the highest are either a queue's or free, also when
// the journal does not tell of that queue any more.
func (st *state) freeQueue(f *factpb.QueueForgotten) {
	if int(f.Queue) >= len(st.queues) {
		set(&st.queues, f.Queue, nil)
	}
	st.freeQueues = append(st.freeQueues, freeQueue{f.Queue, Time(f.At)})
}

// applyQueueKept puts a queue as it is in the place of what is known of it.
func (st *state) applyQueueKept(f *factpb.QueueKept) {
	c := f.Created
	q := &queue{number: c.Number, tenant: c.Tenant, name: c.Name, created: Time(c.At), config: &defaultConfig, deleted: f.Deleted}
	if f.Configured != nil {
		q.configure(f.Configured)
	}
	st.putQueue(q)
}

func (st *state) applyShardKept(f *factpb.ShardKept) {
	st.order = max(st.order, f.Order)
	st.forgetKeys(f.KeysBelow)
	st.freeQueues = st.freeQueues[:0]
	for _, q := range f.Forgotten {
		st.freeQueue(q)
	}
	for _, in := range f.Inbox {
		st.inbox[uint16(in.Source)] = max(st.inbox[uint16(in.Source)], in.Number)
	}
	for _, out := range f.Outboxes {
		o := st.outboxTo(out.Target)
		o.last = max(o.last, out.Last)
		o.trim(out.Received)
	}
}

func (st *state) applySessionOpened(f *factpb.SessionOpened) {
	st.usage.add(tenantOfKey(string(f.Key)), KeptOutcomes, sessionSize)
	st.putSession(f.Number, &outcomes{key: string(f.Key)})
}

func (st *state) putSession(number uint32, o *outcomes) {
	set(&st.sessions, number, o)
	st.sessionByKey[o.key] = number
}

func (st *state) applySessionForgotten(f *factpb.SessionForgotten) {
	o := st.sessionAt(f.Number)
	if o == nil {
		return
	}
	st.usage.add(tenantOfKey(o.key), KeptOutcomes, -sessionSize-outcomeSize*cap(o.entries))
	delete(st.sessionByKey, o.key)
	st.sessions[f.Number] = nil
}
