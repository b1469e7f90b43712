package broker

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/replyq/replyq/handles"
)

// Submit carries out operations in order. It does not wait for other clients; with a journal and several shards it may
// wait until what one shard prepared is kept. The slice belongs to the caller again when it returns; of the requests
// see [Op].
func (s *Session) Submit(ops []Op) {
	if len(s.broker.runners) == 1 {
		s.submitTo(s.broker.runners[0], ops, nil)
	} else {
		s.submitAll(ops)
	}
	if over := s.broker.over.Load(); over != nil {
		s.cutOver(over) // behind it, since a shard that is closed says nothing
	}
}

// submitAll does so where there are several shards.
func (s *Session) submitAll(ops []Op) {
	s.passedEverywhere()
	for i := 0; i < len(ops); {
		home, alone := s.route(&ops[i])
		n := i + 1
		if !alone {
			if s.takesEverywhere(home, &ops[i]) {
				s.submitAcross(home, &ops[i])
			}
			i = n
			continue
		}
		for n < len(ops) {
			if next, alone := s.route(&ops[n]); next != home || !alone {
				break
			}
			n++
		}
		for k := i; k < n; k++ {
			s.where[ops[k].ID] = home
		}
		s.submitTo(s.broker.runners[home], ops[i:n], nil)
		i = n
	}
}

// submitTo carries out operations that concern one shard, in one go.
func (s *Session) submitTo(r *runner, ops []Op, pre *prepared) {
	r.run(func(sh *shard) {
		l := s.linkAt(sh)
		if l == nil {
			return
		}
		if s.where == nil {
			for _, p := range s.passedOps {
				sh.passed(l, p.op)
			}
			s.passedOps = s.passedOps[:0]
		}
		sh.allowed = s.broker.budget.allowance(s.total)
		for i := range ops {
			if s.takesLocked(r, l, &ops[i]) {
				sh.do(l, &ops[i], pre)
			}
		}
	})
}

func (s *Session) passedEverywhere() {
	for _, p := range s.passedOps {
		s.at(p.op, func(sh *shard, l *link) { sh.passed(l, p.op) })
		delete(s.where, p.op)
	}
	s.passedOps = s.passedOps[:0]
}

// route tells which shard an operation belongs to, and whether it concerns that one alone.
func (s *Session) route(op *Op) (home uint16, alone bool) {
	b := s.broker
	tenant := s.identity.Tenant
	switch r := op.Request.(type) {
	case *Enqueue:
		home = b.shardOf(tenant, r.Queue)
		return home, !s.foreign(home, r.ReplyTo) && !s.foreignCargo(home, &r.Cargo) && (r.Pipe == nil || !s.foreign(home, r.Pipe.Parent))
	case *Reply:
		home = s.homeOf(r.Handle)
		return home, !s.foreign(home, r.Lease) && !s.foreign(home, r.Splice) && !s.foreignCargo(home, &r.Cargo) &&
			(!r.Ack || s.parked.Load() == 0)
	case *Settle:
		home = s.homeOf(r.Lease)
		for _, reply := range r.Replies {
			if s.foreign(home, reply.Handle) || s.foreign(home, reply.Splice) || s.foreignCargo(home, &reply.Cargo) {
				return home, false
			}
		}
		for _, e := range r.Messages {
			if b.shardOf(tenant, e.Queue) != home || s.foreign(home, e.ReplyTo) || s.foreignCargo(home, &e.Cargo) {
				return home, false
			}
		}
		return home, s.parked.Load() == 0
	case *Receive:
		return s.homeOf(r.Handle), true
	case *Cancel:
		return s.homeOf(r.Handle), true
	case *Describe:
		return s.homeOf(r.Handle), true
	case *OpenPipe:
		switch {
		case r.Queue != "":
			home = b.shardOf(tenant, r.Queue)
		case !r.Options.Parent.IsZero():
			home = s.homeOf(r.Options.Parent)
		default:
			home = s.placePipe(op.ID)
		}
		return home, !s.foreign(home, r.Options.Parent)
	case *CreateQueue:
		return b.shardOf(tenant, r.Queue), true
	case *UpdateQueue:
		return b.shardOf(tenant, r.Queue), true
	case *DeleteQueue:
		return b.shardOf(tenant, r.Queue), true
	case *PurgeQueue:
		return b.shardOf(tenant, r.Queue), true
	case *ListMessages:
		return b.shardOf(tenant, r.Queue), true
	case *DeleteMessages:
		return b.shardOf(tenant, r.Queue), true
	case *RedriveMessages:
		r.targetShard = b.shardOf(tenant, r.Target)
		return b.shardOf(tenant, r.Queue), true
	case *EndPipe:
		if r.Message.IsZero() {
			return s.homeOf(r.Handle), true
		}
		if int(r.Message.Shard) >= len(b.runners) {
			return 0, true // no shard knows it
		}
		return r.Message.Shard, false
	case *Consume:
		home = b.shardOf(tenant, r.Queues[0])
		return home, s.consumesAlone(home, r)
	default: // ExtendLeases, StopConsuming, ListQueues: to be asked of each shard
		return 0, false
	}
}

// placePipe spreads pipes without a queue over the shards. A repeated operation must find the place where it was first.
func (s *Session) placePipe(op uint64) uint16 {
	key := []byte(s.key)
	if s.key == "" {
		key = binary.BigEndian.AppendUint64(key, s.salt)
	}
	return s.broker.place(binary.BigEndian.AppendUint64(key, op))
}

// homeOf is the shard that a handle names; for handles of another store any shard says the same.
func (s *Session) homeOf(h handles.Handle) uint16 {
	if h.Store() != s.broker.store || int(h.Shard()) >= len(s.broker.runners) {
		return 0
	}
	return h.Shard()
}

// foreign reports whether a handle's pipe or lease lives in a shard other than home.
func (s *Session) foreign(home uint16, h handles.Handle) bool {
	return !h.IsZero() && h.Store() == s.broker.store && int(h.Shard()) < len(s.broker.runners) && h.Shard() != home
}

func (s *Session) foreignCargo(home uint16, c *Cargo) bool {
	for i := range c.Handles {
		if s.foreign(home, c.Handles[i].Handle) {
			return true
		}
	}
	for _, h := range c.Found {
		if s.foreign(home, h) {
			return true
		}
	}
	return false
}

// submitAcross carries out an operation that concerns several shards. What it needs elsewhere is prepared and kept
// first: carriers are added before the message or reply that carries the handle is stored.
func (s *Session) submitAcross(home uint16, op *Op) {
	s.where[op.ID] = home
	switch r := op.Request.(type) {
	case *Enqueue:
		s.enqueueAcross(home, op, r)
	case *OpenPipe:
		x := s.cross(home)
		x.look(r.Options.Parent)
		x.do(op)
	case *Reply:
		s.replyAcross(home, op, r)
	case *Settle:
		s.settleAcross(home, op, r, false)
	case *EndPipe:
		s.endPipeAcross(home, op, r)
	case *ExtendLeases:
		s.extendAcross(op, r)
	case *StopConsuming:
		s.stopAcross(op, r)
	case *ListQueues:
		s.listAcross(op, r)
	case *Consume:
		s.consumeAcross(home, op, r)
	}
}

func (s *Session) refuseAt(home uint16, op *Op, err *Error) {
	s.broker.runners[home].run(func(sh *shard) {
		if l := s.linkAt(sh); l != nil {
			sh.refuse(l, op.ID, err)
		}
	})
}

// extendAcross extends each lease in its shard.
func (s *Session) extendAcross(op *Op, r *ExtendLeases) {
	out := &Extended{Leases: make([]ExtendedLease, len(r.Leases))}
	for i, h := range r.Leases {
		kept := s.broker.runners[s.homeOf(h)].runKept(false, func(sh *shard) {
			if l := s.linkAt(sh); l != nil {
				out.Leases[i] = sh.extendLease(l, h, r)
			}
		})
		if !kept {
			s.cutUnkept()
			return
		}
	}
	s.answer(op, out)
}

func (s *Session) answer(op *Op, body any) {
	s.broker.runners[0].run(func(sh *shard) {
		if l := s.linkAt(sh); l != nil {
			sh.emit(l, op.ID, true, body)
		}
	})
}

// stopAcross looks for the consumer in each shard.
func (s *Session) stopAcross(op *Op, r *StopConsuming) {
	for _, runner := range s.broker.runners {
		found := false
		var e *edge
		runner.run(func(sh *shard) {
			l := s.linkAt(sh)
			c := sh.consumers[consumerKey{s.identity.Tenant, r.ConsumerID}]
			if c == nil || l == nil {
				return
			}
			found = true
			if c.edge != nil && c.link.session.identity.Principal == s.identity.Principal {
				e = c.edge
				return
			}
			sh.stopConsuming(l, op, r)
		})
		if e != nil {
			s.answer(op, &Stopping{InFlight: e.stop()})
			e.pump()
			return
		}
		if found {
			return
		}
	}
	s.refuseAt(0, op, errConsumerUnknown())
}

// listAcross merges the shards' lists.
func (s *Session) listAcross(op *Op, r *ListQueues) {
	all := &QueueList{}
	for _, runner := range s.broker.runners {
		kept := runner.runKept(false, func(sh *shard) {
			list := sh.queues(s.identity.Tenant, r)
			all.Queues = append(all.Queues, list.Queues...)
			all.More = all.More || list.More
		})
		if !kept {
			s.cutUnkept()
			return
		}
	}
	if r.Name != "" && len(all.Queues) == 0 {
		s.refuseAt(0, op, errQueueNotFound("name", r.Name, ""))
		return
	}
	sort.Slice(all.Queues, func(i, j int) bool { return all.Queues[i].Name < all.Queues[j].Name })
	if n := listLimit(r); len(all.Queues) > n {
		all.Queues, all.More = all.Queues[:n], true
	}
	s.answer(op, all)
}

func errQueueNotFound(field, name, more string) *Error {
	return &Error{
		Code: CodeNotFound, Reason: ReasonQueueNotFound, Field: field,
		Text: fmt.Sprintf("queue %q does not exist%s; create it first", name, more),
	}
}
