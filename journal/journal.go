// Package journal says what a journal is: the durable, ordered record of a shard's facts. A [Journal] keeps batches of
// bytes and does not look into them.
//
// What an implementation survives is its durability class, and its own package says which. [Memory], for tests, survives
// nothing.
package journal

import (
	"context"
	"errors"
	"iter"
)

// A Position is the place of a batch in a journal: 1 for the first ever appended, then rising by one.
type Position uint64

// A Journal is one shard's record. It has one writer at a time.
type Journal interface {
	// Append adds a batch behind all earlier ones and returns when it is kept, as durably as the journal promises.
	// It blocks until then. At most one Append is under way at a time; the bytes belong to the caller again when it
	// returns. An error other than ctx's ends the journal: it is not known whether the batch was kept, nothing more can
	// be appended, and the shard must be rebuilt from what Read gives. Cancelling ctx has the same effect.
	Append(ctx context.Context, batch []byte) (Position, error)

	// Read yields all batches from a position on (0 means the first that is kept), in order. The bytes are valid until
	// the next step of the iteration. It may be called beside Append, and then yields what was kept when it began. The
	// iteration ends after it has yielded an error.
	Read(ctx context.Context, from Position) iter.Seq2[Record, error]

	// Trim forgets the batches before a position. It may be called beside Append, and returns when it is done or is sure
	// to happen. Trimming what is trimmed already is no error.
	Trim(ctx context.Context, before Position) error

	// Close ends the journal and waits for what is under way. Append and Trim return [ErrClosed] after it, and so does Read,
	// if it needs anything that was closed. Closing twice is no error.
	Close() error
}

// A Record is one batch with its position.
type Record struct {
	Position Position
	Batch    []byte
}

// ErrClosed says that the journal was closed.
var ErrClosed = errors.New("journal: closed")

// ErrDeposed says that another owner has taken the journal over: it is not known whether the last batch was kept, and
// nothing more will be.
var ErrDeposed = errors.New("journal: deposed: another owner has taken over")
