package broker

// The shard's side of a consumer over several shards; the other one is the edge.

// An edgeNote is what a shard tells an edge.
type edgeNote struct {
	edge *edge
	kind noteKind
	at   Time
}

type noteKind uint8

const (
	noteOffer     noteKind = iota // there is something to take
	noteFreed                     // a delivery was settled or lost
	noteIdle                      // the time without a delivery may be over
	noteTakenOver                 // another stream has the consumer's id
	noteNoQueue                   // all queues of the part were deleted
)

func (s *shard) note(c *consumer, kind noteKind) {
	s.notes = append(s.notes, edgeNote{c.edge, kind, s.now})
}

func (s *shard) takeNotes() []edgeNote {
	notes := s.notes
	s.notes = nil
	return notes
}

// offer tells a part's edge that there is something to take. Until it takes, the part waits aside.
func (s *shard) offer(c *consumer) {
	c.offered = true
	s.unseat(c)
	s.note(c, noteOffer)
}

// take delivers at most n messages to a part, and returns how many there were.
func (s *shard) take(c *consumer, n uint32) uint32 {
	c.allowed, c.offered = n, false
	s.reseat(c)
	s.finish()
	n -= c.allowed
	c.allowed = 0
	return n
}
