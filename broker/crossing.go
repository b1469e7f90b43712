package broker

import "github.com/replyq/replyq/handles"

// crossing gathers what an operation holds elsewhere, so that it can be taken back.
type crossing struct {
	session *Session
	home    uint16
	pre     *prepared
	held    []heldCarrier
	lost    bool // what it found or holds elsewhere was not kept in time: it is not carried out
}

type heldCarrier struct {
	pipe    pipeRef
	carrier carrier
}

func (s *Session) cross(home uint16) *crossing {
	return &crossing{session: s, home: home, pre: &prepared{holds: make(map[handles.Handle]resolved)}}
}

// hold adds a carrier to a handle's pipe, if that is in another shard than stored, where the carrier will be.
func (x *crossing) hold(stored uint16, h handles.Handle, c carrier) {
	if !x.session.foreign(stored, h) {
		return
	}
	ref := pipeRef{h.Shard(), h.Slot(), h.Nonce()}
	var r resolved
	if !x.session.broker.runners[ref.shard].runKept(false, func(sh *shard) { r = sh.hold(ref, c) }) {
		x.lost = true
	}
	x.pre.holds[h] = r
	if !r.unknown && !r.ended {
		x.held = append(x.held, heldCarrier{ref, c})
	}
}

// look finds out about a handle's pipe without holding it.
func (x *crossing) look(h handles.Handle) {
	if x.session.foreign(x.home, h) {
		ref := pipeRef{h.Shard(), h.Slot(), h.Nonce()}
		if !x.session.broker.runners[ref.shard].runKept(false, func(sh *shard) { x.pre.holds[h] = sh.look(ref) }) {
			x.lost = true
		}
	}
}

// holdMessage holds what a message carries that will be stored under ref.
func (x *crossing) holdMessage(e *Enqueue, ref carrierRef) {
	x.hold(ref.shard, e.ReplyTo, carrier{carrierRef: ref, replyTo: true})
	for i := range e.Cargo.Handles {
		h := e.Cargo.Handles[i].Handle
		x.hold(ref.shard, h, carrier{carrierRef: ref, receive: h.Kind() == handles.Receive})
	}
}

// release takes everything back.
func (x *crossing) release() {
	for _, h := range x.held {
		x.session.broker.runners[h.pipe.shard].run(func(sh *shard) { sh.unhold(h.pipe, h.carrier) })
	}
}

// do carries the operation out at home, and takes back what was held if it was refused, or had been carried out before.
func (x *crossing) do(op *Op) {
	s := x.session
	if x.lost {
		x.release()
		s.cutUnkept()
		return
	}
	r := s.broker.runners[x.home]
	r.run(func(sh *shard) {
		if l := s.linkAt(sh); l != nil && s.takesLocked(r, l, op) {
			sh.allowed = s.broker.budget.allowance(s.total)
			sh.do(l, op, x.pre)
		}
	})
	if !x.pre.used {
		x.release()
	}
}

// reserve takes a slot for a message in a shard.
func (s *Session) reserve(shardNumber uint16) target {
	t := target{shard: shardNumber}
	s.broker.runners[shardNumber].run(func(sh *shard) {
		t.slot, t.tag = sh.st.messages.take(), sh.drawTag()
		m := sh.st.messages.at(t.slot)
		m.state, m.tag = messageReserved, t.tag
	})
	return t
}

// missing reports whether a queue of another shard does not exist, and will not be made either.
func (s *Session) missing(shardNumber uint16, queue string) (yes bool) {
	s.broker.runners[shardNumber].run(func(sh *shard) {
		yes = sh.noAutoCreate && sh.st.byName[queueKey{s.identity.Tenant, queue}] == nil
	})
	return yes
}

// unreserve gives a slot back that was not used.
func (s *Session) unreserve(t target) {
	s.broker.runners[t.shard].run(func(sh *shard) {
		if m := sh.st.messages.at(t.slot); m.state == messageReserved {
			m.state, m.tag, m.live.goneBy = messageFree, 0, EndOpen
			sh.st.messages.give(t.slot)
		}
	})
}

func (t target) ref() carrierRef {
	return carrierRef{shard: t.shard, slot: t.slot, number: uint64(t.tag)}
}

func (s *Session) enqueueAcross(home uint16, op *Op, e *Enqueue) {
	x := s.cross(home)
	t := s.reserve(home)
	x.pre.slot, x.pre.tag = t.slot, t.tag
	x.holdMessage(e, t.ref())
	if e.Pipe != nil {
		x.look(e.Pipe.Parent)
	}
	x.do(op)
	s.unreserve(t)
}

func (s *Session) replyAcross(home uint16, op *Op, r *Reply) {
	if r.Ack && s.foreign(home, r.Lease) {
		// The ack decides: it is a Settle of the lease's shard, which sends the reply on.
		lone := *r
		lone.Ack, lone.Lease = false, handles.Handle{}
		settle := &Settle{Lease: r.Lease, Action: Ack, Replies: []*Reply{&lone}}
		standIn := *op
		standIn.Request = settle
		s.where[op.ID] = r.Lease.Shard()
		s.settleAcross(r.Lease.Shard(), &standIn, settle, true)
		return
	}
	if r.Ack {
		s.unparkElsewhere(home, &Settle{Lease: r.Lease})
	}
	x := s.cross(home)
	if s.foreign(home, r.Lease) {
		var err *Error
		kept := s.broker.runners[r.Lease.Shard()].runKept(false, func(sh *shard) {
			x.pre.source, err = sh.checkLease(s.identity.Principal, r.Lease)
		})
		x.lost = !kept
		if kept && err != nil {
			// The lease may have ended since the reply was carried out.
			s.broker.runners[home].run(func(sh *shard) {
				if l := s.linkAt(sh); l != nil && !sh.replyAgain(l, op) {
					sh.refuse(l, op.ID, err)
				}
			})
			return
		}
	}
	x.look(r.Splice)
	x.holdReply(r)
	x.do(op)
}

// holdReply holds what a reply carries, as a carrier with a number of its own: its sequence is not known yet.
func (x *crossing) holdReply(r *Reply) {
	s := x.session
	stored := s.homeOf(r.Handle)
	number := uint64(0)
	if r.Kind == ReplyPayload && s.foreignCargo(stored, &r.Cargo) {
		s.broker.runners[stored].run(func(sh *shard) { number = sh.draw() | drawnNumber })
	}
	x.pre.numbers = append(x.pre.numbers, number)
	for i := range r.Cargo.Handles {
		h := r.Cargo.Handles[i].Handle
		x.look(h)
		if number != 0 {
			ref := carrierRef{reply: true, shard: stored, slot: r.Handle.Slot(), number: number}
			x.hold(stored, h, carrier{carrierRef: ref, receive: h.Kind() == handles.Receive})
		}
	}
}

// drawnNumber is set in numbers that were drawn for replies, and in no sequence.
const drawnNumber = 1 << 63

func (s *Session) settleAcross(home uint16, op *Op, r *Settle, asReply bool) {
	s.unparkElsewhere(home, r)
	x := s.cross(home)
	x.pre.reply = asReply
	for _, reply := range r.Replies {
		x.look(reply.Splice)
		x.holdReply(reply)
	}
	for _, e := range r.Messages {
		t := s.reserve(s.broker.shardOf(s.identity.Tenant, e.Queue))
		t.missing = t.shard != home && s.missing(t.shard, e.Queue)
		x.pre.targets = append(x.pre.targets, t)
		x.look(e.ReplyTo)
		for i := range e.Cargo.Handles {
			x.look(e.Cargo.Handles[i].Handle)
		}
		x.holdMessage(e, t.ref())
	}
	x.do(op)
	for _, t := range x.pre.targets {
		if t.shard == home || !x.pre.used {
			s.unreserve(t)
		}
	}
}

// unparkElsewhere stores what waits for room in pipes of other shards that a Settle answers: it comes before what the Settle
// brings, and before the end that its ack may be.
func (s *Session) unparkElsewhere(home uint16, r *Settle) {
	if s.parked.Load() == 0 {
		return
	}
	var err *Error
	s.broker.runners[home].run(func(sh *shard) { _, err = sh.checkLease(s.identity.Principal, r.Lease) })
	if err != nil {
		return // the Settle will be refused
	}
	for n, runner := range s.broker.runners {
		if uint16(n) != home {
			runner.run(func(sh *shard) {
				if l := s.linkAt(sh); l != nil {
					sh.unparkFor(l, r)
				}
			})
		}
	}
}
