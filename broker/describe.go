package broker

import (
	"fmt"
	"time"

	"github.com/replyq/replyq/handles"
)

// describedCarriers is how many carriers a description names.
const describedCarriers = 100

// countedPosition is up to which place in its queue a message's position is counted.
const countedPosition = 100_000

func (s *shard) describe(l *link, op *Op, r *Describe) {
	h := r.Handle
	ref := pipeRef{h.Shard(), h.Slot(), h.Nonce()}
	own := uint32(0)
	if h.Kind() == handles.Lease {
		source, err := s.checkLease(l.session.identity.Principal, h)
		if err != nil {
			err.Field = "handle"
			s.refuse(l, op.ID, err)
			return
		}
		own = source.message.Slot
		m := s.st.messages.at(own)
		if ref = m.replyTo; ref.isZero() || s.st.pipe(ref) == nil {
			d := s.describeMessage(own, m, true)
			s.emit(l, op.ID, true, &Description{
				State: WaitInFlight, Carriers: []CarrierDescription{d}, Summary: carrierSummary(d, s.now, true),
			})
			return
		}
	}
	if h.Store() != s.st.store {
		s.emit(l, op.ID, true, &Description{State: WaitEnded, HasPipe: true, End: &End{Reason: EndLost, Text: textLost}, Summary: textLost})
		return
	}
	p := s.st.pipe(ref)
	if p == nil {
		s.refuse(l, op.ID, errHandleUnknown("handle"))
		return
	}
	s.emit(l, op.ID, true, s.describePipe(p, h.Kind() == handles.Receive, own))
}

// describePipe tells what a pipe waits for. Who holds only the send handle may answer, and need not know what others have
// answered, nor where else the handle went: that is not full, and shows only the message whose lease they have whole.
func (s *shard) describePipe(p *pipe, full bool, own uint32) *Description {
	d := &Description{HasPipe: true, Deadline: p.deadline, Outside: p.outside}
	d.Carriers = s.describeCarriers(p, full)
	d.State, d.Summary = s.waitState(p, d.Carriers, full)
	if p.state == pipeEnded {
		end := endOf(p)
		d.End = &end
	}
	if full {
		d.FirstSequence, d.NextSequence = p.first(), p.last()+1
		for range s.readersOf(p) {
			d.Readers++
		}
		return d
	}
	for i := range d.Carriers {
		if c := &d.Carriers[i]; own == 0 || c.State == 0 || c.Message.Slot != own {
			c.Message, c.Queue = MessageID{}, ""
		}
	}
	return d
}

// describeCarriers describes what carries a pipe's send handle; positions are counted only if full.
func (s *shard) describeCarriers(p *pipe, full bool) (all []CarrierDescription) {
	for i := range p.carriers.len() {
		c := p.carriers.at(i)
		if c.receive {
			continue
		}
		if len(all) == describedCarriers {
			break
		}
		d := CarrierDescription{}
		if m := s.st.carrying(c.carrierRef); m != nil {
			d = s.describeMessage(c.slot, m, full)
		} else if !c.reply { // of another shard, which is not asked
			d.Message = MessageID{Store: s.st.store, Shard: c.shard, Slot: c.slot, Tag: uint32(c.number)}
		}
		all = append(all, d)
	}
	return all
}

// waitState says what a pipe waits for: for the carrier that is furthest on its way.
func (s *shard) waitState(p *pipe, carriers []CarrierDescription, full bool) (WaitState, string) {
	switch {
	case p.state == pipeEnded:
		summary := "it has ended, with " + reasonName(p.reason)
		if text := p.rare().endText; text != "" {
			summary += ": " + text
		}
		return WaitEnded, summary
	case p.state == pipeSpliced:
		summary := "it goes on with the replies of another pipe"
		if inner := s.st.pipe(p.inner()); inner != nil {
			_, why := s.waitState(inner, s.describeCarriers(inner, false), false)
			summary += ": " + why
		}
		return WaitSpliced, summary
	case len(carriers) == 0:
		return WaitOutside, "no message and no reply that the server keeps has the send handle; somebody outside may"
	default:
		best := carriers[0]
		for _, c := range carriers[1:] {
			if carrierRank(c) > carrierRank(best) {
				best = c
			}
		}
		return carrierWait(best), carrierSummary(best, s.now, full)
	}
}

func carrierRank(c CarrierDescription) int { return int(c.State)*2 + int(min(c.Consumers, 1)) }

func carrierWait(c CarrierDescription) WaitState {
	switch {
	case c.Message.IsZero():
		return WaitInReply
	case c.State == 0:
		return WaitUnknown
	case c.State == MessageInFlight:
		return WaitInFlight
	case c.State == MessageDelayed:
		return WaitDelayed
	case c.Paused:
		return WaitPaused
	case c.Consumers == 0:
		return WaitNoConsumer
	default:
		return WaitQueued
	}
}

// carrierSummary says why a carrier has not brought an answer; queue and position only if full.
func carrierSummary(c CarrierDescription, now Time, full bool) string {
	queue, behind := "", ""
	if full {
		queue, behind = fmt.Sprintf(" in queue %q", c.Queue), fmt.Sprintf(" behind %d others", c.Position)
	}
	left := time.Duration(c.Until - now).Round(time.Second)
	switch carrierWait(c) {
	case WaitInReply:
		return "the send handle is in a reply that nobody has read"
	case WaitUnknown:
		return "a message of a queue in another shard has the send handle"
	case WaitInFlight:
		if full {
			queue = fmt.Sprintf(" of queue %q", c.Queue)
		}
		return fmt.Sprintf("a consumer%s works on it, attempt %d, its lease ends in %v", queue, c.Attempts, left)
	case WaitDelayed:
		return fmt.Sprintf("the message is held back%s for another %v", queue, left)
	case WaitPaused:
		return fmt.Sprintf("the message waits%s; the queue is paused: resume it", queue)
	case WaitNoConsumer:
		return fmt.Sprintf("the message waits%s, and nobody consumes the queue: start a consumer", queue)
	}
	if c.Blocked != "" {
		return fmt.Sprintf("the message waits%s for its group: %s", queue, c.Blocked)
	}
	return fmt.Sprintf("the message waits%s%s; its %d consumers are busy", queue, behind, c.Consumers)
}

func (s *shard) describeMessage(slot uint32, m *message, full bool) CarrierDescription {
	q := s.st.queues[m.queue]
	d := CarrierDescription{
		Message: s.st.messageID(slot, m.tag), Queue: q.name, Attempts: m.attempt, Failures: m.failures,
		Consumers: uint32(q.live.consumers), Paused: q.config.Paused,
	}
	switch m.state {
	case messageLeased:
		d.State, d.Until = MessageInFlight, m.until
	case messageDelayed:
		d.State, d.Until = MessageDelayed, m.until
	default:
		d.State = MessageReady
		if m.special() {
			d.Blocked = m.extras.live.group.why(q.config.GroupConcurrency)
		}
		if full {
			d.Position = s.position(q, m)
		}
	}
	return d
}

// position is how many ready messages are ahead of one; those of other groups, which take turns with it, aside.
func (s *shard) position(q *queue, m *message) (n uint64) {
	if l := q.live.lanes; l != nil {
		for p := m.priority() + 1; p < priorities; p++ {
			n += l.ready[p]
		}
	}
	for at := m.live.prev; at != 0 && n < countedPosition; at = s.st.messages.at(at).live.prev {
		n++
	}
	return n
}

func reasonName(r EndReason) string {
	names := [...]string{
		"OPEN", "OK", "FAILED", "EXPIRED", "CANCELLED", "NO_CONSUMER", "REJECTED", "DEAD_LETTERED", "PURGED",
		"QUEUE_DELETED", "DROPPED", "BROKEN", "REVOKED", "SHUTTING_DOWN", "LOST",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("reason %d", r)
}

// String is the reason's name on the wire, without its prefix.
func (r EndReason) String() string { return reasonName(r) }
