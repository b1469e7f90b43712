package client

import "time"

// extendEvery is how often leases are extended: three times in a lease's time.
func (s *Consumer) extendEvery() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaseTime == 0 {
		return 10 * time.Second // a third of the default
	}
	return s.leaseTime / 3
}

// extend asks for more time for the deliveries that have had theirs for a third of it, and comes back while there are
// any. Handlers that are quicker cost nothing.
func (w *worker) extend() {
	every := w.consumer.extendEvery()
	due, held := w.consumer.dueBefore(2 * every)
	w.consumer.extend(due)
	w.mu.Lock()
	defer w.mu.Unlock()
	if held == 0 || w.extender == nil {
		w.extender = nil
		return
	}
	w.extender.Reset(every)
}

// dueBefore returns the deliveries whose lease ends within d, and how many are held in all.
func (s *Consumer) dueBefore(d time.Duration) (due []*Delivery, held int) {
	limit := time.Now().Add(s.link.clockSkew() + d + d/8).UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.held.first; d != nil; d = d.next {
		if d.leaseEnd.Load() <= limit {
			due = append(due, d)
		}
	}
	return due, s.held.n
}
