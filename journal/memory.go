package journal

import (
	"context"
	"errors"
	"iter"
	"sync"
)

// Memory is a journal in memory. It survives nothing; tests use it to look at what was appended, and to append nothing
// for a while. The zero Memory is ready to use.
type Memory struct {
	// BeforeAppend, if set, is called before a batch is kept; an error refuses it and ends the journal. It may block.
	BeforeAppend func(batch []byte) error

	mu      sync.Mutex
	first   Position // position of batches[0], less one
	batches [][]byte
	err     error
}

// Append implements [Journal].
func (m *Memory) Append(ctx context.Context, batch []byte) (Position, error) {
	err := ctx.Err()
	if err == nil && m.BeforeAppend != nil {
		err = m.BeforeAppend(batch)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
	if m.err != nil {
		return 0, m.err
	}
	m.batches = append(m.batches, append([]byte(nil), batch...))
	return m.first + Position(len(m.batches)), nil
}

// Read implements [Journal].
func (m *Memory) Read(_ context.Context, from Position) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m.mu.Lock()
		first, batches := m.first, m.batches
		m.mu.Unlock()
		for i, batch := range batches {
			if p := first + Position(i) + 1; p >= from && !yield(Record{p, batch}, nil) {
				return
			}
		}
	}
}

// Trim implements [Journal].
func (m *Memory) Trim(_ context.Context, before Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(m.err, ErrClosed) {
		return ErrClosed
	}
	for len(m.batches) > 0 && m.first+1 < before {
		m.batches = m.batches[1:]
		m.first++
	}
	return nil
}

// Close implements [Journal].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = ErrClosed
	return nil
}
