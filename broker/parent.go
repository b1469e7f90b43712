package broker

import (
	"maps"
	"slices"

	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// A pipe may be opened under another one: it takes over an earlier deadline, and is cancelled when its parent ends
// otherwise than OK. The two tell each other by what they send, whether they are in one shard or in two: childOpened and
// childEnded one way, parentEnded the other. Few pipes have relatives, so these stand beside the pipe.

// relatives are the parent of a pipe, and the pipes under it that are open.
type relatives struct {
	parent   pipeRef
	children map[pipeRef]struct{}
}

// relate returns a pipe's relatives, to be added to.
func (st *state) relate(slot uint32) *relatives {
	r := st.relatives[slot]
	if r == nil {
		r = &relatives{}
		st.relatives[slot] = r
		st.pipes.at(slot).related = true
	}
	return r
}

func (r *relatives) addChild(child pipeRef) {
	if r.children == nil {
		r.children = make(map[pipeRef]struct{})
	}
	r.children[child] = struct{}{}
}

func (st *state) applyPipeChild(f *factpb.PipeChild) {
	if st.pipeAt(f.Pipe) == nil {
		return
	}
	r := st.relate(f.Pipe)
	if child := refOf(f.Child); f.Ended {
		delete(r.children, child)
	} else {
		r.addChild(child)
	}
	if len(r.children) == 0 && r.parent.isZero() {
		delete(st.relatives, f.Pipe)
		st.pipes.at(f.Pipe).related = false
	}
}

// planParent looks up the pipe under which one shall be opened; its zero value if there is none.
func (s *shard) planParent(o *PipeOptions, pre *prepared) (resolved, *Error) {
	if o.Parent.IsZero() {
		return resolved{}, nil
	}
	r := s.resolve(o.Parent, pre)
	if r.unknown {
		return r, errHandleUnknown("pipe.parent")
	}
	return r, nil
}

// openUnder tells the parent of a pipe that was opened.
func (s *shard) openUnder(slot uint32, parent handles.Handle) {
	child := s.refAt(slot)
	if parent.Store() != s.st.store {
		s.send(&factpb.Sent{Target: uint32(s.st.shard), What: sentParentEnded, Pipe: child.fact(), Reason: uint32(EndLost)})
		return
	}
	ref := s.st.relatives[slot].parent
	s.send(&factpb.Sent{Target: uint32(ref.shard), What: sentChildOpened, Pipe: ref.fact(), Other: child.fact()})
}

// childOpened registers a pipe under this one, or cancels it if this one has ended meanwhile.
func (s *shard) childOpened(e *factpb.Sent) {
	p := s.st.pipe(refOf(e.Pipe))
	switch {
	case p != nil && p.state != pipeEnded:
		s.commit(&factpb.PipeChild{Pipe: e.Pipe.Slot, Child: e.Other})
	case p == nil:
		s.sendParentEnded(refOf(e.Other), EndLost)
	case outlives(p.reason):
	default:
		s.sendParentEnded(refOf(e.Other), p.reason)
	}
}

// outlives reports whether the pipes under one that ended so go on. When the server stops, each ends by itself.
func outlives(reason EndReason) bool { return reason == EndOK || reason == EndShuttingDown }

func (s *shard) sendParentEnded(child pipeRef, reason EndReason) {
	s.send(&factpb.Sent{Target: uint32(child.shard), What: sentParentEnded, Pipe: child.fact(), Reason: uint32(reason)})
}

// tellRelatives tells the parent and the children of a pipe that it ends. It is called before the fact that ends it.
func (s *shard) tellRelatives(ref pipeRef, reason EndReason) {
	r := s.st.relatives[ref.slot]
	if !r.parent.isZero() {
		s.send(&factpb.Sent{Target: uint32(r.parent.shard), What: sentChildEnded, Pipe: r.parent.fact(), Other: ref.fact()})
	}
	if outlives(reason) {
		return
	}
	for _, child := range slices.SortedFunc(maps.Keys(r.children), comparePipes) {
		s.sendParentEnded(child, reason)
	}
}

// childEnded forgets a pipe under this one.
func (s *shard) childEnded(e *factpb.Sent) {
	ref := refOf(e.Pipe)
	if p := s.st.pipe(ref); p != nil && p.related {
		s.commit(&factpb.PipeChild{Pipe: ref.slot, Child: e.Other, Ended: true})
	}
}

// parentEnded cancels a pipe whose parent has ended. If both have one deadline, which is the rule, both end by it.
func (s *shard) parentEnded(e *factpb.Sent) {
	ref := refOf(e.Pipe)
	p := s.st.pipe(ref)
	switch {
	case p == nil || p.state == pipeEnded:
	case p.deadline <= s.now:
		s.expire(ref.slot)
	default:
		s.end(ref.slot, pipeEnding{
			reason: EndCancelled, text: "the pipe under which it was opened ended " + reasonName(EndReason(e.Reason)),
		})
	}
}
