// Package optable maps the numbers of a session's operations to what is known of each. Clients number operations from 1,
// rising, so that those which are open lie close together: a [Table] keeps them in pages of 16, which costs less memory
// than a map (a few bytes per operation instead of some 40), no allocation in the long run, and a look-up in the page
// that was used last instead of a hash.
//
// Numbers that lie far apart are correct as well; each then has a page of its own.
package optable

import (
	"iter"
	"maps"
	"math/bits"
	"slices"
)

const (
	pageShift = 4
	pageSize  = 1 << pageShift
)

// A Table maps numbers to values of type T. The zero Table is empty and ready for use. It belongs to one goroutine at a
// time.
type Table[T any] struct {
	pages map[uint64]*page[T]
	last  *page[T]   // the page that was found last
	at    uint64     // its number
	spare []*page[T] // empty pages to use again
	n     int
}

type page[T any] struct {
	used   uint16 // bit i: values[i] is in the table
	values [pageSize]T
}

// Len is how many numbers have a value.
func (t *Table[T]) Len() int { return t.n }

// find returns the page of a number, nil if there is none.
func (t *Table[T]) find(number uint64) *page[T] {
	if p := number >> pageShift; t.last == nil || t.at != p {
		t.last, t.at = t.pages[p], p
	}
	return t.last
}

// Get returns the value of a number, nil if it has none. The pointer is good until the number is deleted.
func (t *Table[T]) Get(number uint64) *T {
	p := t.find(number)
	if i := number % pageSize; p != nil && p.used>>i&1 != 0 {
		return &p.values[i]
	}
	return nil
}

// Put gives a number the zero value, or leaves it the one it has, and returns it. The pointer is good until the number
// is deleted.
func (t *Table[T]) Put(number uint64) *T {
	p := t.find(number)
	if p == nil {
		p = t.empty()
		if t.pages == nil {
			t.pages = make(map[uint64]*page[T])
		}
		t.pages[number>>pageShift] = p
		t.last = p
	}
	i := number % pageSize
	if p.used>>i&1 == 0 {
		p.used |= 1 << i
		t.n++
	}
	return &p.values[i]
}

// Delete takes a number out of the table.
func (t *Table[T]) Delete(number uint64) {
	p := t.find(number)
	i := number % pageSize
	if p == nil || p.used>>i&1 == 0 {
		return
	}
	var zero T
	p.values[i] = zero
	p.used &^= 1 << i
	t.n--
	if p.used == 0 {
		delete(t.pages, number>>pageShift)
		t.last = nil
		if len(t.spare) < spareMost {
			t.spare = append(t.spare, p)
		}
	}
}

// spareMost is how many empty pages a table keeps.
const spareMost = 8

func (t *Table[T]) empty() *page[T] {
	n := len(t.spare)
	if n == 0 {
		return new(page[T])
	}
	p := t.spare[n-1]
	t.spare = t.spare[:n-1]
	return p
}

// All gives the numbers and their values, by rising number. The table must not change meanwhile, but for the number that
// was given last, which may be deleted.
func (t *Table[T]) All() iter.Seq2[uint64, *T] {
	return func(yield func(uint64, *T) bool) {
		for _, number := range slices.Sorted(maps.Keys(t.pages)) {
			p := t.pages[number]
			for used := p.used; used != 0; used &= used - 1 {
				i := bits.TrailingZeros16(used)
				if !yield(number<<pageShift|uint64(i), &p.values[i]) {
					return
				}
			}
		}
	}
}
