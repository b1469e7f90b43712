package journaltest

import (
	"errors"
	"sync"

	"github.com/replyq/replyq/journal"
)

var trimCases = []testCase{ //nolint:gochecknoglobals // a table
	{"forgets what is before", func(b *bed) {
		b.append(1, 10)
		b.trim(4)
		b.has(0, 4, 10)
		b.has(2, 4, 10)
		b.has(5, 5, 10)
	}},
	{"again, and less", func(b *bed) {
		b.append(1, 10)
		b.trim(4)
		b.trim(4)
		b.trim(2)
		b.trim(0)
		b.has(0, 4, 10)
		b.trim(5)
		b.has(0, 5, 10)
	}},
	{"all", func(b *bed) {
		b.append(1, 10)
		b.trim(11)
		b.has(0, 1, 0)
		b.append(11, 12)
		b.has(0, 11, 12)
	}},
	{"more than there is", func(b *bed) {
		b.append(1, 3)
		b.trim(100)
		b.has(0, 1, 0)
		b.append(4, 6)
		b.has(0, 4, 6)
	}},
	{"an empty journal", func(b *bed) {
		b.trim(5)
		b.append(1, 2)
		b.has(0, 1, 2)
	}},
	{"beside appending and reading", func(b *bed) {
		b.append(1, 50)
		var wg sync.WaitGroup
		wg.Go(func() {
			for p := journal.Position(2); p <= 40; p++ {
				if err := b.j.Trim(b.Context(), p); err != nil {
					b.Errorf("Trim(%d): %v", p, err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				for _, err := range b.j.Read(b.Context(), 40) {
					if err != nil {
						b.Errorf("Read: %v", err)
					}
				}
			}
		})
		b.append(51, 150)
		wg.Wait()
		b.has(0, 40, 150)
	}},
}

var closeCases = []testCase{ //nolint:gochecknoglobals // a table
	{"twice", func(b *bed) {
		for range 2 {
			if err := b.j.Close(); err != nil {
				b.Errorf("Close: %v", err)
			}
		}
	}},
	{"calls after it", func(b *bed) {
		b.append(1, 3)
		if err := b.j.Close(); err != nil {
			b.Fatal(err)
		}
		if _, err := b.j.Append(b.Context(), batch(4)); !errors.Is(err, journal.ErrClosed) {
			b.Errorf("Append: %v, want ErrClosed", err)
		}
		if err := b.j.Trim(b.Context(), 2); !errors.Is(err, journal.ErrClosed) {
			b.Errorf("Trim: %v, want ErrClosed", err)
		}
		n, failed := 0, false
		for _, err := range b.j.Read(b.Context(), 0) {
			if n++; err != nil && (failed || !errors.Is(err, journal.ErrClosed)) {
				b.Errorf("Read: %v, want ErrClosed once", err)
			}
			failed = err != nil
		}
		if !failed && n != 3 {
			b.Errorf("Read after Close yielded %d batches, want 3 or ErrClosed", n)
		}
	}},
	{"during an append", func(b *bed) {
		b.append(1, 20)
		done := make(chan error, 1)
		ready := make(chan struct{})
		go func() {
			for n := 21; ; n++ {
				if _, err := b.j.Append(b.Context(), batch(n)); err != nil {
					done <- err
					return
				}
				if n == 40 {
					close(ready)
				}
			}
		}()
		<-ready
		if err := b.j.Close(); err != nil {
			b.Errorf("Close: %v", err)
		}
		if err := <-done; !errors.Is(err, journal.ErrClosed) {
			b.Errorf("Append: %v, want ErrClosed", err)
		}
	}},
}

var reopenCases = []testCase{ //nolint:gochecknoglobals // a table
	{"has what was appended", func(b *bed) {
		b.append(1, 100)
		b.again()
		b.has(0, 1, 100)
		b.append(101, 120)
		b.again()
		b.has(0, 1, 120)
	}},
	{"empty", func(b *bed) {
		b.again()
		b.has(0, 1, 0)
		b.append(1, 1)
	}},
	{"does not have what was trimmed", func(b *bed) {
		b.append(1, 20)
		b.trim(15)
		b.again()
		b.has(0, 15, 20)
	}},
	{"goes on after all was trimmed", func(b *bed) {
		b.append(1, 20)
		b.trim(21)
		b.again()
		b.has(0, 1, 0)
		b.append(21, 22)
		b.again()
		b.has(0, 21, 22)
	}},
}
