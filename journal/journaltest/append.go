package journaltest

import (
	"context"
	"errors"
	"testing"

	"github.com/replyq/replyq/journal"
)

var appendCases = []testCase{ //nolint:gochecknoglobals // a table
	{"positions rise by one from 1", func(b *bed) {
		b.append(1, 300)
		b.has(0, 1, 300)
	}},
	{"the bytes belong to the caller again", func(b *bed) {
		content := batch(7)
		if _, err := b.j.Append(b.Context(), batch(1)); err != nil {
			b.Fatal(err)
		}
		for n := 2; n <= 7; n++ {
			copy(content, batch(n))
			if _, err := b.j.Append(b.Context(), content[:len(batch(n))]); err != nil {
				b.Fatal(err)
			}
			clear(content)
		}
		b.has(0, 1, 7)
	}},
	{"a batch may be large", func(b *bed) {
		large := make([]byte, 12<<20)
		for i := range large {
			large[i] = byte(i * i >> 8)
		}
		if _, err := b.j.Append(b.Context(), large); err != nil {
			b.Fatal(err)
		}
		for r, err := range b.j.Read(b.Context(), 0) {
			if err != nil || string(r.Batch) != string(large) {
				b.Fatalf("Read: a batch of %d bytes, %v; want the %d that were appended", len(r.Batch), err, len(large))
			}
		}
	}},
	{"a context that has ended ends the journal", func(b *bed) {
		b.append(1, 3)
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if _, err := b.j.Append(ctx, batch(4)); !errors.Is(err, context.Canceled) {
			b.Errorf("Append with an ended context: %v, want context.Canceled", err)
		}
		if p, err := b.j.Append(b.Context(), batch(4)); err == nil {
			b.Errorf("Append after a failed one: position %d, want an error", p)
		}
		b.has(0, 1, 3)
	}},
	{"allocates little", func(b *bed) {
		content := batch(9)
		allocs := testing.AllocsPerRun(50, func() {
			if _, err := b.j.Append(b.Context(), content); err != nil {
				b.Fatal(err)
			}
		})
		if allocs > 40 {
			b.Errorf("Append: %v allocations, want at most 40", allocs)
		}
	}},
}

var readCases = []testCase{ //nolint:gochecknoglobals // a table
	{"an empty journal has nothing", func(b *bed) { b.has(0, 1, 0) }},
	{"from a position", func(b *bed) {
		b.append(1, 10)
		b.has(1, 1, 10)
		b.has(7, 7, 10)
		b.has(10, 10, 10)
		b.has(11, 1, 0)
		b.has(journal.Position(1)<<63, 1, 0)
	}},
	{"stopping early", func(b *bed) {
		b.append(1, 10)
		for r, err := range b.j.Read(b.Context(), 0) {
			if err != nil {
				b.Fatal(err)
			}
			if r.Position == 3 {
				break
			}
		}
		b.append(11, 12)
		b.has(0, 1, 12)
	}},
	{"what was kept when it began", func(b *bed) {
		b.append(1, 5)
		var last journal.Position
		n := 5
		for r, err := range b.j.Read(b.Context(), 0) {
			if err != nil {
				b.Fatal(err)
			}
			n++
			b.append(n, n)
			last = r.Position
		}
		if last != 5 {
			b.Errorf("Read went on to %d, want 5", last)
		}
		b.has(0, 1, n)
	}},
	{"a context that ends", func(b *bed) {
		b.append(1, 5)
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		n, last := 0, error(nil)
		for _, err := range b.j.Read(ctx, 0) {
			n++
			last = err
			cancel()
		}
		if last != nil && !errors.Is(last, context.Canceled) || last == nil && n != 5 {
			b.Errorf("Read ended with %v after %d steps, want context.Canceled or all 5", last, n)
		}
	}},
}
