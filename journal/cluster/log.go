package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/replyq/replyq/journal"
)

// A log is the journal of a shard in one epoch.
type log struct {
	store  *Store
	shard  int
	writer uint64
	node   string
	// followed has read a part of the log already; nil if none has.
	followed *Follower
	ctx      context.Context //nolint:containedctx // ends with the journal; its cause says why
	cancel   context.CancelCauseFunc
	closed   context.Context //nolint:containedctx // ends at Close: not before, since who was deposed may read
	close    context.CancelFunc

	writing sync.Mutex // held while a message is under way: one at a time
	message []byte     // guarded by writing: the memory of the last one

	mu       sync.Mutex
	epoch    uint64
	number   uint64           // of the last message that was kept
	sequence uint64           // of the same, in the stream
	next     journal.Position // of the next batch
	from     journal.Position // the first that is not trimmed
	start    uint64           // a sequence at or before from's
	needed   uint64           // start, as the last message that was kept has it
	begin    uint64           // the sequence of the first part of the batch that is under way
	places   places
}

func newLog(s *Store, shard int, f *Follower) *log {
	l := &log{store: s, shard: shard, writer: random(), node: s.options.Node, followed: f}
	if f != nil {
		l.places = f.places
	}
	l.ctx, l.cancel = context.WithCancelCause(s.ctx)
	l.closed, l.close = context.WithCancel(s.ctx)
	return l
}

// take appends the fence.
func (l *log) take(ctx context.Context) error {
	for try := 0; ; try++ {
		last, err := l.tail(ctx)
		if err == nil {
			// No epoch before can be as high: each is one more than the sequence of a message before its fence.
			l.epoch, l.sequence = last.sequence+1, last.sequence
			l.next, l.from, l.start = max(last.position, 1), max(last.from, 1), last.start
			if last.kind == batchKind {
				l.next++
			}
			var again bool
			if again, err = l.fence(ctx, last); !again {
				return err
			}
		} else if errors.Is(err, errDamaged) || errors.Is(err, errTooStrange) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		}
		pause(ctx, try)
		l.store.awaitLeader(ctx, func() {})
	}
}

// tail is what the shard's log ends with. It does not wait long: it is asked again.
func (l *log) tail(ctx context.Context) (tail, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return l.store.tail(ctx, l.shard)
}

// fence tries to append the fence behind the last message, and says whether to try again behind another one.
func (l *log) fence(ctx context.Context, last tail) (bool, error) {
	h := l.header(fenceKind)
	err := l.keep(ctx, h, h.encode(nil, l.shard, nil, false))
	if !errors.Is(err, journal.ErrDeposed) {
		return false, err
	}
	now, readErr := l.store.tail(ctx, l.shard)
	if readErr != nil || now.epoch != last.epoch { // who was quicker has the shard
		return false, err
	}
	return true, nil
}

// header is of the next message.
func (l *log) header(k kind) header {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := header{
		kind: k, epoch: l.epoch, writer: l.writer, position: l.next, from: l.from, start: l.start, node: l.node,
	}
	if k != fenceKind {
		h.number = l.number + 1
	}
	return h
}

// Append implements [journal.Journal]. It goes on through lost connections and a lost quorum until it knows.
func (l *log) Append(ctx context.Context, batch []byte) (journal.Position, error) {
	began := time.Now()
	h, err := l.write(ctx, batchKind, batch, func() {})
	if err == nil {
		l.store.counts.appended(len(batch), began)
	}
	return h.position, err
}

// write keeps a batch, in as many messages as it needs. An error ends the journal. Before the message is made, it calls
// prepare with l.mu held.
func (l *log) write(ctx context.Context, k kind, batch []byte, prepare func()) (header, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := context.Cause(l.ctx); err != nil {
		return header{}, l.ended(err)
	}
	if err := ctx.Err(); err != nil {
		l.cancel(err)
		return header{}, fmt.Errorf("cluster: append: %w", err)
	}
	l.mu.Lock()
	prepare()
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(l.ended(context.Cause(l.ctx))) })()
	h, err := l.keepParts(ctx, k, batch)
	if err != nil {
		l.cancel(err)
		return header{}, fmt.Errorf("cluster: append to shard %d: %w", l.shard, err)
	}
	return h, nil
}

// keepParts keeps a batch part by part. Until the last one is kept, the others are nothing.
func (l *log) keepParts(ctx context.Context, k kind, batch []byte) (header, error) {
	for part := uint64(0); ; part++ {
		h := l.header(k)
		h.part = part
		piece := batch[:min(len(batch), mostPart)]
		if batch = batch[len(piece):]; len(batch) > 0 {
			h.kind = partKind
		}
		l.message = h.encode(l.message, l.shard, piece, l.store.packs)
		if err := l.keep(ctx, h, l.message); err != nil {
			return h, err
		}
		l.store.trimmer.appended(len(l.message))
		if cap(l.message) > keptMemory {
			l.message = nil
		}
		if len(batch) == 0 {
			return h, nil
		}
	}
}

// ended makes the end of the store the end of the journal.
func (l *log) ended(err error) error {
	if errors.Is(err, context.Canceled) && l.store.ctx.Err() != nil {
		return journal.ErrClosed
	}
	return err
}

// keep publishes a message until it is known to be kept, or never to be.
func (l *log) keep(ctx context.Context, h header, message []byte) error {
	gone := 0
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			return context.Cause(ctx) //nolint:wrapcheck // by the caller
		}
		sequence, err := l.publish(ctx, message)
		if err == nil {
			l.kept(h, sequence)
			return nil
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		if wrongSequence(err) {
			if done, err := l.look(ctx, h); done {
				return err
			}
		}
		try = l.awaitTurn(ctx, try, err)
		if away := l.store.gone(ctx, err); away == nil {
			gone = 0
		} else if gone++; gone == goneTries {
			return away
		}
	}
}

// awaitTurn waits until a message that was not kept may be sent again: what is sent to a stream without a leader is lost. It
// returns how many tries there would have been by then, which it tells of now and then.
func (l *log) awaitTurn(ctx context.Context, try int, err error) int {
	tell := func() {
		if try%8 == 2 {
			l.store.options.Log.Warn("a batch is not kept yet: it is tried again", "shard", l.shard, "tries", try+1,
				"error", err, "hint", hint(err))
		}
	}
	tell()
	pause(ctx, try)
	l.store.awaitLeader(ctx, func() { try++; tell() })
	return try
}

func (l *log) publish(ctx context.Context, message []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	l.store.link.begin(l, cancel)
	ack, err := l.store.js.Publish(ctx, l.store.subject(l.shard), message,
		jetstream.WithExpectLastSequencePerSubject(l.sequence), jetstream.WithRetryAttempts(0))
	lost := l.store.link.end(l)
	if !unsent(err) {
		l.store.counts.published(len(message))
	}
	if err != nil {
		if lost {
			err = errLinkLost
		}
		return 0, err //nolint:wrapcheck // by the caller
	}
	return ack.Sequence, nil
}

// look reads what the subject ends with, after another end than expected: an earlier try of ours, or another owner. It
// says whether the outcome is known.
func (l *log) look(ctx context.Context, h header) (bool, error) {
	last, err := l.tail(ctx)
	switch {
	case err != nil || last.sequence < l.sequence:
		return false, nil // not known, or from a server that lags
	case last.epoch == h.epoch && last.writer == h.writer && last.number == h.number && last.kind == h.kind:
		l.kept(h, last.sequence)
		return true, nil
	case last.sequence == l.sequence:
		return false, nil // an earlier try is under way
	case last.epoch >= h.epoch, h.kind == fenceKind:
		return true, fmt.Errorf("node %q has epoch %d: %w", last.node, last.epoch, journal.ErrDeposed)
	}
	l.mu.Lock()
	l.sequence = last.sequence // something stale slipped in, which readers pass over
	l.mu.Unlock()
	return false, nil
}

// kept remembers a message that is in the log.
func (l *log) kept(h header, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number, l.sequence, l.needed = h.number, sequence, h.start
	if h.part == 0 {
		l.begin = sequence
	}
	if h.kind == batchKind {
		l.next = h.position + 1
		l.places.add(h.position, l.begin)
	}
}

// Close implements [journal.Journal]. What is being read ends with [journal.ErrClosed], and is not waited for.
func (l *log) Close() error {
	l.cancel(journal.ErrClosed)
	l.close()
	l.writing.Lock()
	defer l.writing.Unlock()
	return nil
}

// wrongSequence says that the subject does not end as expected.
func wrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
