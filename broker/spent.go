package broker

// The bodies of the frequent kinds of events are used again: a busy session's would be five allocations for each request,
// and half of what the collector has to look at. Whoever has written events out may hand them back with
// [Session.Recycle]; who does not, leaves them to the collector.

// spentMost is how many bodies of a kind a shard keeps, and how many events a session.
const spentMost = 4096

// spentBodies are bodies to be used again.
type spentBodies struct {
	receipts   []*Receipt
	deliveries []*Delivery
	items      []*ReplyItem
	ends       []*End
	results    []*ReplyResult
	settled    []*Settled
}

// takeBody returns a body from a list, or a new one. What it had before is still in it.
func takeBody[T any](spent *[]*T) *T {
	n := len(*spent)
	if n == 0 {
		return new(T)
	}
	body := (*spent)[n-1]
	*spent = (*spent)[:n-1]
	return body
}

func giveBody[T any](spent *[]*T, body *T) {
	if len(*spent) < spentMost {
		*spent = append(*spent, body)
	}
}

func (b *spentBodies) give(body any) {
	switch body := body.(type) {
	case *Receipt:
		giveBody(&b.receipts, body)
	case *Delivery:
		giveBody(&b.deliveries, body)
	case *ReplyItem:
		giveBody(&b.items, body)
	case *End:
		giveBody(&b.ends, body)
	case *ReplyResult:
		giveBody(&b.results, body)
	case *Settled:
		giveBody(&b.settled, body)
	}
}

// emitOwn leaves an event whose body came from s.spent and is referred to by nothing else.
func (s *shard) emitOwn(l *link, op uint64, done bool, body any) {
	s.out = append(s.out, outgoing{l.session, Event{Op: op, Done: done, reusable: true, Body: body}})
}

// Recycle hands events back whose bodies the caller will not look at again, nor let anybody else. It may be called
// beside Take.
func (s *Session) Recycle(events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range events {
		if e := &events[i]; e.reusable && len(s.spent) < spentMost {
			s.spent = append(s.spent, e.Body)
		}
	}
}

// reclaimLocked gives a shard what was handed back. The caller has the shard's lock as well.
func (s *Session) reclaimLocked(to *spentBodies) {
	for i, body := range s.spent {
		to.give(body)
		s.spent[i] = nil
	}
	s.spent = s.spent[:0]
}
