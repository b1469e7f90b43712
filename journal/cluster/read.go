package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/replyq/replyq/journal"
)

// readHeartbeat is how often a reader hears from the server that it has read all there is. When it does not, it begins anew
// where it was.
const readHeartbeat = time.Second

// Read implements [journal.Journal].
func (l *log) Read(ctx context.Context, from journal.Position) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(l.closed, cancel)()
		if err := l.read(ctx, from, yield); err != nil {
			if l.closed.Err() != nil {
				err = journal.ErrClosed
			}
			yield(journal.Record{}, fmt.Errorf("cluster: read shard %d: %w", l.shard, err))
		}
	}
}

func (l *log) read(ctx context.Context, from journal.Position, yield func(journal.Record, error) bool) error {
	if l.closed.Err() != nil {
		return journal.ErrClosed
	}
	l.mu.Lock()
	r := reader{shard: l.shard, expected: l.from, start: l.start, head: l.head}
	start, end, fresh := l.start, l.sequence, l.number == 0
	nothing := max(from, l.from) >= l.next && !fresh
	l.mu.Unlock()
	if nothing {
		return nil
	}
	if f := l.followed; f != nil && fresh && from > 0 && from == f.position() {
		r, start = *f.reader, f.at+1
	}
	err := l.store.eachMessage(ctx, l.shard, start, func(message []byte, at uint64) (bool, error) {
		if l.closed.Err() != nil { // ctx follows a little later
			return false, journal.ErrClosed
		}
		if at > end {
			return false, l.passed(ctx) // what it ended with was trimmed meanwhile, and all before
		}
		record, ok, err := r.take(message, at)
		if err != nil {
			if passed := l.passed(ctx); passed != nil {
				return false, passed // another owner has trimmed meanwhile
			}
			return false, fmt.Errorf("sequence %d: %w", at, err)
		}
		if ok {
			l.mu.Lock()
			l.places.add(record.Position, r.begin)
			l.mu.Unlock()
			if record.Position >= from && !yield(record, nil) {
				return false, errEnough
			}
		}
		return at < end, nil
	})
	if err != nil {
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	if r.passed { // something stale, or what comes behind another owner's trimming
		if err := l.passed(ctx); err != nil {
			return err
		}
	}
	l.through(r.expected)
	return nil
}

// errEnough ends a reading that nobody wants to go on.
var errEnough = errors.New("enough")

// eachMessage calls f with what is in a shard's log from a sequence on, and where it is in the stream, for as long as f
// wants more.
func (s *Store) eachMessage(ctx context.Context, shard int, from uint64, f func(message []byte, at uint64) (more bool, _ error)) error {
	// Pushed, not pulled: a pull that comes to a new consumer may find nobody there yet on another node of the cluster, and is
	// lost until its heartbeats are missed (one reading in three, with three nodes). What is pushed waits for its receiver.
	var messages *nats.Subscription
	err := s.options.patiently(ctx, passing, func() (err error) { // making a consumer takes a leader of all NATS servers
		messages, err = s.legacy.SubscribeSync(s.subject(shard),
			nats.OrderedConsumer(), nats.BindStream(s.streamName()), nats.StartSequence(max(from, 1)),
			nats.IdleHeartbeat(readHeartbeat), nats.Context(ctx))
		return err //nolint:wrapcheck // by the caller
	})
	if err != nil {
		return err //nolint:wrapcheck // by the caller
	}
	defer func() {
		if ctx.Err() == nil { // else the subscription ends by itself, and nobody waits for a server that may not answer
			_ = messages.Unsubscribe() // the connection may be closed
		}
	}()
	if err := messages.SetPendingLimits(-1, -1); err != nil { // flow control bounds it
		return err //nolint:wrapcheck // by the caller
	}
	for more := true; more; {
		m, err := messages.NextMsgWithContext(ctx)
		if err != nil {
			return err //nolint:wrapcheck // by the caller
		}
		meta, err := m.Metadata()
		if err != nil {
			return err //nolint:wrapcheck // by the caller
		}
		if more, err = f(m.Data, meta.Sequence.Stream); err != nil {
			return err
		}
	}
	return nil
}

// passed says so if another owner has the shard.
func (l *log) passed(ctx context.Context) error {
	last, err := l.store.tail(ctx, l.shard)
	if err == nil && last.epoch > l.epoch {
		err = fmt.Errorf("node %q has epoch %d: %w", last.node, last.epoch, journal.ErrDeposed)
	}
	return err
}

// through corrects the next position by what was read up to the fence: something stale may have been in front of the fence.
func (l *log) through(next journal.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.number == 0 {
		l.next = max(l.next, next)
	}
}

// head returns the first position that is not trimmed, and a sequence at or before its.
func (l *log) head() (from journal.Position, start uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from, l.start
}

// A reader tells what counts in a shard's log: what continues the newest epoch, and the fences of higher ones.
type reader struct {
	shard    int
	expected journal.Position // the next
	start    uint64           // where the log begins
	head     func() (from journal.Position, start uint64)
	along    bool // it follows: what is missing was trimmed by the owner, and cannot be done without
	known    bool // whether there was a message that counts
	passed   bool // whether there was one that does not
	epoch    uint64
	writer   uint64
	number   uint64

	unpacked []byte // the memory of what was compressed

	batch []byte // its parts so far, if it has several
	parts uint64 // how many
	begin uint64 // the sequence of the first
}

// misses says that messages are missing in front of one.
func (r *reader) misses(h *header) bool {
	if h.kind == fenceKind {
		return h.epoch > r.epoch && h.position > r.expected
	}
	return h.epoch > r.epoch || h.epoch == r.epoch && h.writer == r.writer && h.number > r.number+1
}

// take looks at the next message, and says whether it is a batch that counts, or the last part of one.
func (r *reader) take(message []byte, at uint64) (journal.Record, bool, error) {
	h, batch, err := decode(r.shard, message)
	if err != nil {
		return journal.Record{}, false, err
	}
	from, start := r.head()
	if at < start {
		return journal.Record{}, false, nil // trimmed meanwhile
	}
	if start > r.start { // all before may be missing
		r.start, r.known, r.parts = start, false, 0
	}
	if r.along && r.known && r.misses(&h) {
		return journal.Record{}, false, ErrNotFollowed
	}
	switch {
	case h.kind == fenceKind && (!r.known || h.epoch > r.epoch):
	case !r.known, h.epoch == r.epoch && h.writer == r.writer && h.number == r.number+1:
	default: // stale
		r.passed = true
		return journal.Record{}, false, nil
	}
	r.known, r.epoch, r.writer, r.number = true, h.epoch, h.writer, h.number
	if h.kind != batchKind && h.kind != partKind || h.position < r.expected {
		return journal.Record{}, false, nil
	}
	if h.part == 0 {
		r.batch, r.parts, r.begin = r.batch[:0], 0, at
	}
	if h.part != r.parts {
		if h.position < from {
			return journal.Record{}, false, nil // its first parts may be missing
		}
		return journal.Record{}, false, fmt.Errorf("part %d of batch %d comes where %d has to: %w", h.part, h.position, r.parts, errDamaged)
	}
	r.parts++
	if h.packed {
		if r.unpacked, err = unpack(r.unpacked, batch); err != nil {
			return journal.Record{}, false, err
		}
		batch = r.unpacked
	}
	if h.kind == partKind || h.part > 0 {
		r.batch = append(r.batch, batch...)
		batch = r.batch
	}
	if h.kind == partKind {
		return journal.Record{}, false, nil
	}
	if h.position != r.expected && h.position > from { // what was trimmed meanwhile may be missing
		return journal.Record{}, false, fmt.Errorf("batch %d comes where %d has to: %w", h.position, r.expected, errDamaged)
	}
	r.expected = h.position + 1
	return journal.Record{Position: h.position, Batch: batch}, true, nil
}
