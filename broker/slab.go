package broker

// A slab keeps entities in chunks and names them by slot, a number from 1 that stays the same while the entity lives.
// Slots instead of pointers keep entities small and their collector out of the way, and let handles and message ids
// find their entity without a map.
type slab[T any] struct {
	chunks   []*[slabChunk]T
	top      uint32   // the highest slot ever in use
	free     []uint32 // slots to use again; not kept during a replay, which knows its slots
	replayed int      // how many slots are in use during a replay
}

const (
	slabShift = 8
	slabChunk = 1 << slabShift
)

// at returns the entity in a slot, which must be between 1 and top.
func (s *slab[T]) at(slot uint32) *T {
	return &s.chunks[slot>>slabShift][slot&(slabChunk-1)]
}

// has reports whether the slot was ever in use.
func (s *slab[T]) has(slot uint32) bool { return slot != 0 && slot <= s.top }

// take reserves a slot.
func (s *slab[T]) take() uint32 {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot
	}
	s.grow(s.top + 1)
	return s.top
}

// grow makes all slots up to slot usable with at.
func (s *slab[T]) grow(slot uint32) {
	for slot > s.top {
		s.top++
		if int(s.top>>slabShift) >= len(s.chunks) {
			s.chunks = append(s.chunks, new([slabChunk]T))
		}
	}
}

// used is how many slots are in use, but not during a replay.
func (s *slab[T]) used() int { return int(s.top) - len(s.free) }

// give returns a slot, whose entity the caller has cleared.
func (s *slab[T]) give(slot uint32) { s.free = append(s.free, slot) }
