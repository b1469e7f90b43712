// Package journaltest says by tests what a journal is: what implements [journal.Journal] passes [Run].
package journaltest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/replyq/replyq/journal"
)

// New makes an empty journal for a test, and a function that opens it again, with what it has kept, after it was closed:
// nil if it survives nothing. What has to be cleaned up is registered with t.
type New func(t *testing.T) (j journal.Journal, reopen func() (journal.Journal, error))

// Run runs the whole suite. Each test gets a journal of its own.
func Run(t *testing.T, open New) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"append", appendCases},
		{"read", readCases},
		{"trim", trimCases},
		{"close", closeCases},
		{"reopen", reopenCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.run(newBed(t, open)) })
			}
		})
	}
}

type testCase struct {
	name string
	run  func(*bed)
}

// A bed is one test's journal.
type bed struct {
	*testing.T
	j      journal.Journal
	reopen func() (journal.Journal, error)
}

func newBed(t *testing.T, open New) *bed {
	b := &bed{T: t}
	b.j, b.reopen = open(t)
	t.Cleanup(func() { _ = b.j.Close() })
	return b
}

// again closes the journal and opens it again, or skips the test if that cannot be.
func (b *bed) again() {
	b.Helper()
	if b.reopen == nil {
		b.Skip("this journal survives nothing")
	}
	if err := b.j.Close(); err != nil {
		b.Fatalf("Close: %v", err)
	}
	j, err := b.reopen()
	if err != nil {
		b.Fatalf("open again: %v", err)
	}
	b.j = j
}

// batch is the content of the batch with a number: different in each, of many sizes, now and then empty.
func batch(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d,", n), n*n%101)
}

// append appends the batches of these numbers, which are to be their positions.
func (b *bed) append(from, to int) {
	b.Helper()
	for n := from; n <= to; n++ {
		p, err := b.j.Append(b.Context(), batch(n))
		if err != nil || p != journal.Position(n) {
			b.Fatalf("Append: got position %d, %v; want %d", p, err, n)
		}
	}
}

// has compares what is read from a position on with the batches of these numbers.
func (b *bed) has(from journal.Position, first, last int) {
	b.Helper()
	var want []journal.Record
	for n := first; n <= last; n++ {
		want = append(want, journal.Record{Position: journal.Position(n), Batch: batch(n)})
	}
	var got []journal.Record
	for r, err := range b.j.Read(b.Context(), from) {
		if err != nil {
			b.Fatalf("Read(%d): %v after %d batches", from, err, len(got))
		}
		got = append(got, journal.Record{Position: r.Position, Batch: bytes.Clone(r.Batch)})
	}
	equal := cmp.Comparer(func(x, y journal.Record) bool { return x.Position == y.Position && bytes.Equal(x.Batch, y.Batch) })
	if diff := cmp.Diff(want, got, equal); diff != "" {
		b.Errorf("Read(%d) (-want +got):\n%s", from, diff)
	}
}

func (b *bed) trim(before journal.Position) {
	b.Helper()
	if err := b.j.Trim(b.Context(), before); err != nil {
		b.Fatalf("Trim(%d): %v", before, err)
	}
}
