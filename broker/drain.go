package broker

// drain makes a shard take nothing new.
func (s *shard) drain() {
	s.draining = true
	for _, q := range s.st.queues {
		for q != nil && q.live.seats.head != nil {
			q.live.seats.remove(q.live.seats.head)
		}
	}
	s.finish()
}

// endPipes ends at most n open pipes because the server stops, and reports whether more are left.
func (s *shard) endPipes(n int) (more bool) {
	for slot := s.endedUpTo + 1; slot <= s.st.pipes.top; slot++ {
		if n == 0 {
			return true
		}
		s.endedUpTo = slot
		if p := s.st.pipes.at(slot); p.state == pipeOpen || p.state == pipeSpliced {
			s.end(slot, pipeEnding{reason: EndShuttingDown, text: "the server was stopped and keeps no journal; ask again when it is back"})
			n--
		}
	}
	s.finish()
	return false
}
