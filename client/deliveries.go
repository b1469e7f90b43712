package client

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// deliveries is a list of deliveries, linked through their own fields.
type deliveries struct {
	first, last *Delivery
	n           int
}

func (l *deliveries) add(d *Delivery) {
	d.isHeld, d.prev, d.next = true, l.last, nil
	if l.last == nil {
		l.first = d
	} else {
		l.last.next = d
	}
	l.last = d
	l.n++
}

// remove tells whether d was in the list.
func (l *deliveries) remove(d *Delivery) bool {
	if !d.isHeld {
		return false
	}
	if d.prev == nil {
		l.first = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		l.last = d.prev
	} else {
		d.next.prev = d.prev
	}
	d.isHeld, d.prev, d.next = false, nil, nil
	l.n--
	return true
}

func (l *deliveries) all() []*Delivery {
	all := make([]*Delivery, 0, l.n)
	for d := l.first; d != nil; d = d.next {
		all = append(all, d)
	}
	return all
}

// wireTime gives the zero time for none.
func wireTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
