package broker

// A chore is work over all messages of a shard. It is done in steps, so that other operations get their turn between
// them, one chore after the other.
type chore struct {
	next, last uint32 // slots: the next one to look at, and the last one
	// visit is called for each message and reports whether it changed something.
	visit func(slot uint32, m *message) bool
	done  func()
}

// A step of a chore takes less than a millisecond: it looks at so many slots at most, and changes so many messages.
const (
	choreSlots    = 20_000
	choreMessages = 500
)

// begin starts a chore, or lines it up behind others.
func (s *shard) begin(c *chore) {
	c.next, c.last = 1, s.st.messages.top
	s.chores = append(s.chores, c)
	if len(s.chores) == 1 {
		s.stepChore()
	}
}

// stepChore does a step of the first chore.
func (s *shard) stepChore() {
	c := s.chores[0]
	done := 0
	for n := 0; n < choreSlots && done < choreMessages && c.next <= c.last; n++ {
		slot := c.next
		c.next++
		if m := s.st.messages.at(slot); m.state > messageReserved && c.visit(slot, m) {
			done++
		}
	}
	s.finish()
	if c.next <= c.last {
		return
	}
	s.chores = s.chores[1:]
	c.done()
	s.finish()
}

// due is when the shard must be called again; 0 if it need not be.
func (s *shard) due() Time {
	if len(s.chores) > 0 {
		return s.now
	}
	return s.wheel.next()
}
