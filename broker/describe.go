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
	if h.Kind() == handles.Lease {
		source, err := s.checkLease(l.session.identity.Principal, h)
		if err != nil {
			err.Field = "handle"
			s.refuse(l, op.ID, err)
			return
		}
		m := s.st.messages.at(source.message.Slot)
		own := s.describeMessage(source.message.Slot, m)
		if ref = m.replyTo; ref.isZero() || s.st.pipe(ref) == nil {
			s.emit(l, op.ID, true, &Description{
				State: WaitInFlight, Carriers: []CarrierDescription{own}, Summary: carrierSummary(own, s.now),
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
	s.emit(l, op.ID, true, s.describePipe(p, h.Kind() == handles.Receive))
}

// describePipe tells what a pipe waits for; to holders of the send handle only the outline.
func (s *shard) describePipe(p *pipe, full bool) *Description {
	d := &Description{HasPipe: true, Deadline: p.deadline, Outside: p.outside}
	for i := range p.carriers.len() {
		c := *p.carriers.at(i)
		if c.receive || len(d.Carriers) == describedCarriers {
			continue
		}
		d.Carriers = append(d.Carriers, s.describeCarrier(c))
	}
	s.waitState(p, d)
	if full {
		d.FirstSequence, d.NextSequence = p.first(), p.last()+1
		for range s.readersOf(p) {
			d.Readers++
		}
		return d
	}
	for i := range d.Carriers {
		c := &d.Carriers[i]
		c.Message, c.Queue, c.Position = MessageID{}, "", 0
	}
	return d
}

// waitState says what the pipe waits for: for the carrier that is furthest on its way.
func (s *shard) waitState(p *pipe, d *Description) {
	switch {
	case p.state == pipeEnded:
		end := endOf(p)
		d.State, d.End = WaitEnded, &end
		d.Summary = "it has ended, with " + reasonName(p.reason)
		if text := p.rare().endText; text != "" {
			d.Summary += ": " + text
		}
	case p.state == pipeSpliced:
		d.State, d.Summary = WaitSpliced, "it goes on with the replies of another pipe"
	case len(d.Carriers) == 0:
		d.State, d.Summary = WaitOutside, "no message and no reply that the server keeps has the send handle; somebody outside may"
	default:
		best := d.Carriers[0]
		for _, c := range d.Carriers[1:] {
			if carrierRank(c) > carrierRank(best) {
				best = c
			}
		}
		d.State, d.Summary = carrierWait(best), carrierSummary(best, s.now)
	}
}

func carrierRank(c CarrierDescription) int { return int(c.State)*2 + int(min(c.Consumers, 1)) }

func carrierWait(c CarrierDescription) WaitState {
	switch {
	case c.Message.IsZero():
		return WaitInReply
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

func carrierSummary(c CarrierDescription, now Time) string {
	left := time.Duration(c.Until - now).Round(time.Second)
	switch carrierWait(c) {
	case WaitInReply:
		return "the send handle is in a reply that nobody has read"
	case WaitInFlight:
		return fmt.Sprintf("a consumer of queue %q works on it, attempt %d, its lease ends in %v", c.Queue, c.Attempts, left)
	case WaitDelayed:
		return fmt.Sprintf("the message is held back in queue %q for another %v", c.Queue, left)
	case WaitPaused:
		return fmt.Sprintf("the message waits in queue %q, which is paused; resume it", c.Queue)
	case WaitNoConsumer:
		return fmt.Sprintf("the message waits in queue %q, which nobody consumes; start a consumer", c.Queue)
	default:
		return fmt.Sprintf("the message waits in queue %q behind %d others; its %d consumers are busy", c.Queue, c.Position, c.Consumers)
	}
}

func (s *shard) describeCarrier(c carrier) CarrierDescription {
	m := s.st.carrying(c.carrierRef)
	if m == nil {
		return CarrierDescription{}
	}
	return s.describeMessage(c.slot, m)
}

func (s *shard) describeMessage(slot uint32, m *message) CarrierDescription {
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
		if l := q.live.lanes; l != nil {
			for p := m.priority() + 1; p < priorities; p++ {
				d.Position += l.ready[p]
			}
		}
		for at := m.live.prev; at != 0 && d.Position < countedPosition; at = s.st.messages.at(at).live.prev {
			d.Position++
		}
	}
	return d
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
