package broker

// A row is those ready messages of a queue that have one group and one priority, in their order. Messages with neither
// are in the queue's own row; the others are in its lanes.
type row struct {
	messageList
	// hint is where a returned message was put back last: the next one usually belongs beside it.
	hint     uint32
	priority uint8
	turning  bool // it is in its lane's rotation
	group    *group
	next     *row
	prev     *row
}

// putBack puts a message at its place in a row. Those that come back mostly come one beside the other, so the search
// starts where the last one was put.
func (s *shard) putBack(r *row, slot uint32) {
	order := s.st.messages.at(slot).order
	at := uint32(0) // behind this one
	if h := r.hint; h != 0 && h != slot && s.inRow(r, h) {
		at = h
	}
	for at != 0 && s.st.messages.at(at).order > order {
		at = s.st.messages.at(at).live.prev
	}
	for {
		next := r.head
		if at != 0 {
			next = s.st.messages.at(at).live.next
		}
		if next == 0 || s.st.messages.at(next).order > order {
			break
		}
		at = next
	}
	s.insertAfter(&r.messageList, at, slot)
	r.hint = slot
}

// inRow reports whether a slot, which may have been given to another message, is in a row.
func (s *shard) inRow(r *row, slot uint32) bool {
	m := s.st.messages.at(slot)
	if m.state != messageReady {
		return false
	}
	q := s.st.queues[m.queue]
	return s.rowOf(q, m) == r
}

// rotation is the rows of one priority that have messages which may be delivered, served in turn.
type rotation struct{ head, tail *row }

func (l *rotation) pushBack(r *row) {
	r.turning, r.prev, r.next = true, l.tail, nil
	if l.tail != nil {
		l.tail.next = r
	} else {
		l.head = r
	}
	l.tail = r
}

func (l *rotation) remove(r *row) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.head = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.tail = r.prev
	}
	r.turning, r.next, r.prev = false, nil, nil
}
