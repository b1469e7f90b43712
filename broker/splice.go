package broker

import (
	"fmt"

	"github.com/replyq/replyq/broker/factpb"
	"github.com/replyq/replyq/handles"
)

// A splice makes the inner pipe feed the outer one: the outer is a reader of the inner and stores what it reads under
// its own sequences. The two talk by what they send each other, whether they are in one shard or in two: feedStart,
// feedReply, feedEnd one way, feedCredit and feedStop the other. A probe follows the chain from each new splice on and
// finds a cycle that was closed in two shards at the same time.

// maxSplices is how long a chain of splices may be.
const maxSplices = 16

// feedPayload is the largest reply that credit for a feed is reckoned with, in bytes.
const feedPayload = 1 << 20

// planSplice decides whether a pipe can go on with another one.
func (s *shard) planSplice(outer uint32, h handles.Handle, pre *prepared, field string) (pipeRef, *Error) {
	field += "splice"
	r := s.resolve(h, pre)
	if r.unknown || h.Store() != s.st.store {
		return pipeRef{}, errHandleUnknown(field)
	}
	own := s.refAt(outer)
	length := 1 + s.above(own, maxSplices)
	for at := r.ref; ; length++ {
		if at == own {
			return pipeRef{}, &Error{
				Code: CodeFailedPrecondition, Reason: ReasonHandleCycle, Field: field,
				Text: "the pipe would wait for itself; splice another pipe, or answer with a value",
			}
		}
		if length > maxSplices {
			return pipeRef{}, &Error{
				Code: CodeFailedPrecondition, Reason: ReasonSpliceTooDeep, Field: field,
				Text: fmt.Sprintf("the chain of splices would be longer than %d; answer with a value", maxSplices),
			}
		}
		p := s.st.pipe(at)
		if p == nil || p.state != pipeSpliced {
			return r.ref, nil
		}
		at = p.inner()
	}
}

// above is the length of the longest chain of pipes that wait for this one, as far as this shard knows.
func (s *shard) above(ref pipeRef, limit int) int {
	p := s.st.pipe(ref)
	if p == nil || limit == 0 {
		return 0
	}
	longest := 0
	for _, f := range p.feeds() {
		longest = max(longest, 1+s.above(f.outer, limit-1))
	}
	return longest
}

// splice makes a pipe go on with another one's replies.
func (s *shard) splice(outer uint32, inner pipeRef, id string) {
	own := s.refAt(outer)
	s.commit(&factpb.Spliced{Pipe: outer, Inner: inner.fact(), ReplyId: id})
	s.later(work{kind: workParked, pipe: own}) // who waits for room in it has come too late
	credit := s.feedRoom(outer)
	s.st.pipes.at(outer).live.fed = credit
	s.send(&factpb.Sent{
		Target: uint32(inner.shard), What: sentFeedStart, Pipe: inner.fact(), Other: own.fact(), Sequence: uint64(credit),
	})
}

// feedRoom is how many replies a spliced pipe can take.
func (s *shard) feedRoom(outer uint32) uint32 {
	p := s.st.pipes.at(outer)
	s.hasRoom(outer, p, feedPayload) // trims
	replies := int64(p.options.capReplies) - int64(len(p.replies()))
	bytes := (int64(p.options.capBytes) - int64(p.bytes())) / feedPayload
	if len(p.replies()) == 0 {
		bytes = max(bytes, 1)
	}
	return uint32(max(0, min(replies, bytes)))
}

// feedStarted registers a pipe that goes on with this one.
func (s *shard) feedStarted(e *factpb.Sent) {
	inner, outer := refOf(e.Pipe), refOf(e.Other)
	p := s.st.pipe(inner)
	if p == nil {
		s.send(&factpb.Sent{
			Target: e.Other.Shard, What: sentFeedEnd, Pipe: e.Other, Reason: uint32(EndBroken),
			Text: "the pipe that should go on with the answer has been forgotten",
		})
		return
	}
	s.commit(&factpb.Feeding{Pipe: inner.slot, Outer: e.Other, Next: p.first(), Credit: uint32(e.Sequence)})
	if p.live.leftAt != 0 {
		p.live.leftAt = 0
		s.timePipe(inner.slot)
	}
	if p.state == pipeSpliced {
		s.send(&factpb.Sent{Target: uint32(p.inner().shard), What: sentFeedProbe, Pipe: p.inner().fact(), Other: outer.fact(), Sequence: 2})
	}
	s.later(work{kind: workFeed, pipe: inner})
}

// feedOthers passes on what the pipes that go on with this one have room for.
func (s *shard) feedOthers(ref pipeRef) {
	p := s.st.pipe(ref)
	if p == nil {
		return
	}
	for i := 0; i < len(p.feeds()); {
		f := p.feeds()[i]
		for f.next <= p.last() && f.credit > 0 {
			r := &p.replies()[f.next-p.first()]
			s.gaveOut(r.handles)
			s.send(&factpb.Sent{
				Target: uint32(f.outer.shard), What: sentFeedReply, Pipe: f.outer.fact(), Body: r.body, Attempt: r.attempt,
				SourceShard: uint32(r.source.Shard), SourceSlot: r.source.Slot, SourceTag: r.source.Tag,
				Handles: handleFacts(r.handles),
			})
			f.next++
			f.credit--
		}
		if p.state == pipeEnded && f.next > p.last() {
			s.send(&factpb.Sent{
				Target: uint32(f.outer.shard), What: sentFeedEnd, Pipe: f.outer.fact(),
				Reason: uint32(p.reason), Body: p.rare().endBody, Text: p.rare().endText,
			})
			s.commit(&factpb.Feeding{Pipe: ref.slot, Outer: f.outer.fact()})
			if len(p.feeds()) == 0 && !p.read {
				s.commit(&factpb.PipeRead{Pipe: ref.slot, At: int64(s.now)})
				s.timePipe(ref.slot)
				s.retire(ref.slot)
			}
			continue
		}
		if f != p.feeds()[i] {
			s.commit(&factpb.Feeding{Pipe: ref.slot, Outer: f.outer.fact(), Next: f.next, Credit: f.credit})
		}
		i++
	}
}

// fed stores a reply that came from the inner pipe.
func (s *shard) fed(e *factpb.Sent) {
	ref := refOf(e.Pipe)
	p := s.st.pipe(ref)
	if p == nil || p.state != pipeSpliced {
		return
	}
	source := MessageID{}
	if e.SourceTag != 0 {
		source = MessageID{Store: s.st.store, Shard: uint16(e.SourceShard), Slot: e.SourceSlot, Tag: e.SourceTag}
	}
	hs := handlesOf(e.Handles)
	for i := range hs {
		hs[i].untracked = true // the inner pipe's copy is the carrier
	}
	p.live.fed = max(p.live.fed, 1) - 1
	s.putReply(ref.slot, e.Body, source, e.Attempt, hs, "")
	s.grantFeed(ref.slot)
}

// grantFeed lets the inner pipe send more when half of the room is free.
func (s *shard) grantFeed(outer uint32) {
	p := s.st.pipes.at(outer)
	if p.state != pipeSpliced {
		return
	}
	room := s.feedRoom(outer)
	if room <= p.live.fed || p.live.fed > room/2 {
		return
	}
	s.send(&factpb.Sent{
		Target: uint32(p.inner().shard), What: sentFeedCredit, Pipe: p.inner().fact(), Other: s.refAt(outer).fact(),
		Sequence: uint64(room - p.live.fed),
	})
	p.live.fed = room
}

// feedCredited gives a feed more room; with stop, it ends it.
func (s *shard) feedCredited(e *factpb.Sent, stop bool) {
	ref, outer := refOf(e.Pipe), refOf(e.Other)
	p := s.st.pipe(ref)
	if p == nil {
		return
	}
	for _, f := range p.feeds() {
		if f.outer != outer {
			continue
		}
		if stop {
			s.commit(&factpb.Feeding{Pipe: ref.slot, Outer: e.Other})
			s.maybeAbandoned(ref.slot)
			s.later(work{kind: workParked, pipe: ref})
			return
		}
		s.commit(&factpb.Feeding{Pipe: ref.slot, Outer: e.Other, Next: f.next, Credit: f.credit + uint32(e.Sequence)})
		s.later(work{kind: workFeed, pipe: ref})
		s.later(work{kind: workParked, pipe: ref})
		return
	}
}

// feedEnded ends a spliced pipe as its inner one ended.
func (s *shard) feedEnded(e *factpb.Sent) {
	if p := s.st.pipe(refOf(e.Pipe)); p != nil && p.state == pipeSpliced {
		s.end(e.Pipe.Slot, pipeEnding{reason: EndReason(e.Reason), body: e.Body, text: e.Text})
	}
}

// probed follows a chain of splices in search of its beginning.
func (s *shard) probed(e *factpb.Sent) {
	ref, origin := refOf(e.Pipe), refOf(e.Other)
	p := s.st.pipe(ref)
	if p == nil || p.state != pipeSpliced {
		return
	}
	text := ""
	switch {
	case ref == origin:
		text = "splices in several places closed a cycle: the pipe would wait for itself"
	case e.Sequence > maxSplices:
		text = fmt.Sprintf("the chain of splices is longer than %d", maxSplices)
	default:
		s.send(&factpb.Sent{
			Target: uint32(p.inner().shard), What: sentFeedProbe, Pipe: p.inner().fact(), Other: e.Other, Sequence: e.Sequence + 1,
		})
		return
	}
	s.send(&factpb.Sent{Target: e.Other.Shard, What: sentFeedEnd, Pipe: e.Other, Reason: uint32(EndBroken), Text: text})
}
