package server

// What a client says about what it has received and can take: credit, marks, confirmations, detaching.

// grant gives credit. It reports whether the sender may go on.
func (ss *session) grant(c *inCredit) bool {
	ss.unread.Store(0)
	if c.operation != 0 {
		ss.submitMu.Lock()
		defer ss.submitMu.Unlock()
		ss.broker.Credit(c.operation, c.items)
		return false
	}
	// At most what a session may ask for at first: more has no use, and would overflow some day.
	for {
		old := ss.credit.Load()
		sum := min(old+int64(min(c.bytes, maxCreditBytes)), maxCreditBytes)
		if ss.credit.CompareAndSwap(old, sum) {
			return old <= 0 && sum > 0
		}
	}
}

// detach leaves an operation that streams. Results of it that are on their way may still come; after that, none.
func (ss *session) detach(id uint64) {
	ss.mu.Lock()
	op := ss.open.Get(id)
	ok := op != nil && op.kind.streams()
	if ok {
		ss.closeLocked(id, op)
	}
	ss.mu.Unlock()
	if ok {
		ss.submitMu.Lock()
		defer ss.submitMu.Unlock()
		ss.broker.Detach(id)
	}
}

func (ss *session) answeredBelow(id uint64) {
	ss.unread.Store(0)
	ss.submitMu.Lock()
	defer ss.submitMu.Unlock()
	ss.broker.AnsweredBelow(id)
	if items := ss.items.Load(); items != nil {
		items.AnsweredBelow(min(id, 1<<(64-itemBits)-1) << itemBits)
	}
}

// A writtenEnd is an End that was written as the n-th result of the stream.
type writtenEnd struct {
	op uint64
	n  uint64
}

// confirmed notes that the client has received the first n results of the stream.
func (ss *session) confirmed(n uint64) {
	ss.unread.Store(0)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	i := 0
	for ; i < len(ss.written) && ss.written[i].n <= n; i++ {
		ss.passed = append(ss.passed, ss.written[i].op)
	}
	ss.written = append(ss.written[:0], ss.written[i:]...)
}

// passLocked notes the Ends that have arrived; the broker hears of them with what is submitted next.
func (ss *session) passLocked() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, op := range ss.passed {
		ss.broker.Passed(op)
	}
	ss.passed = ss.passed[:0]
}

// flushPassed tells the broker at once: the watchdog calls it for sessions that submit nothing.
func (ss *session) flushPassed() {
	ss.submitMu.Lock()
	defer ss.submitMu.Unlock()
	ss.passLocked()
	ss.broker.Flush()
}
