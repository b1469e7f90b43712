package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/replyq/replyq/handles"
)

// ReplyReader reads the replies of a pipe as one value: what a [ReplyWriter] wrote, or any replies whose payloads one
// after the other are the value. It belongs to one goroutine at a time. What is not read holds back the writer, when the
// pipe has as much as it may keep, and nobody else.
//
// Read ends with io.EOF when the value is whole. It fails with the pipe's [*EndError] if that ended otherwise, and with
// io.ErrUnexpectedEOF if it ended OK though parts are missing.
//
// A worker that is lost half-way leaves half a value behind, and another attempt begins anew. If nothing of the first
// was read yet, the reader drops it by itself. Else Read fails once with a [*RestartError]: whoever has kept what was
// read drops it, and reads on from the beginning. [ReplyReader.ReadAll] does so.
type ReplyReader struct {
	take    func() (Reply, bool, error)
	explain func(error) error
	leave   func()

	first    *Reply // of the value, while it is not asked for
	rest     []byte // of the reply at hand
	source   string
	attempt  uint32
	part     int // of the reply at hand; 0 if replies are not numbered
	complete bool
	begun    bool
	given    int64 // bytes of the value that were handed out
	err      error
}

// RestartError says that the value begins anew: the worker that had written what was read so far is lost, and another
// attempt is under way. Reading on gives its value from the beginning.
type RestartError struct {
	// Attempt is the number of the new attempt; 0 if the replier named no lease.
	Attempt uint32
	// Dropped is how many bytes were read that are worth nothing now.
	Dropped int64
}

// Error says how much is to be dropped.
func (e *RestartError) Error() string {
	return fmt.Sprintf("the value begins anew with attempt %d: drop the %d bytes that were read", e.Attempt, e.Dropped)
}

// Reader reads the call's answer as one value. Use it instead of Replies and One, and close it: that cancels the call if
// it has not ended.
func (c *Call) Reader() *ReplyReader {
	return &ReplyReader{take: c.take, explain: c.explain, leave: c.Cancel}
}

// NewReader reads the value of a pipe by its receive handle, from the beginning. Close it: that only detaches, and
// others may read the pipe beside it.
func (c *Client) NewReader(ctx context.Context, receive handles.Handle) *ReplyReader {
	r := c.newReader(ctx, receive, 1)
	explain := func(err error) error { return fmt.Errorf("receive: %w", err) }
	return &ReplyReader{take: r.take, explain: explain, leave: r.leave}
}

// Reader reads the future's value as it comes, beside those who await it. See [Client.NewReader].
func (f *Future[T]) Reader(ctx context.Context) *ReplyReader {
	if f.client == nil {
		return &ReplyReader{err: errUnbound, leave: func() {}}
	}
	return f.client.NewReader(ctx, f.handle)
}

// Head waits for the first reply of the value and returns it without its payload: content type, headers and handles.
// Nothing is read by that.
func (r *ReplyReader) Head() (Reply, error) {
	for r.first == nil {
		if r.err != nil {
			return Reply{}, r.err
		}
		if err := r.advance(); err != nil {
			return Reply{}, err
		}
	}
	head := *r.first
	head.Payload = nil
	return head, nil
}

// Read implements io.Reader.
func (r *ReplyReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.given += int64(n)
	return n, nil
}

// ReadAll reads the value to its end, whatever attempts it takes. It is for values that fit into memory.
func (r *ReplyReader) ReadAll() ([]byte, error) {
	var b bytes.Buffer
	for {
		_, err := b.ReadFrom(r)
		if restart := (*RestartError)(nil); errors.As(err, &restart) {
			b.Reset()
			continue
		}
		return b.Bytes(), err
	}
}

// Close leaves the pipe. Closing again does nothing.
func (r *ReplyReader) Close() error {
	if r.err == nil || !errors.Is(r.err, io.ErrClosedPipe) {
		r.leave()
		r.err, r.rest = io.ErrClosedPipe, nil
	}
	return nil
}

// advance takes the next reply. An error that stays is kept in r.err.
func (r *ReplyReader) advance() error {
	reply, ok, err := r.take()
	switch {
	case err != nil:
		r.err = r.explain(err)
	case ok:
		return r.accept(&reply)
	case r.part > 0 && !r.complete:
		r.err = r.explain(fmt.Errorf("the pipe ended after part %d, which is not the last: %w", r.part, io.ErrUnexpectedEOF))
	default:
		r.err = io.EOF
	}
	return r.err
}

// accept makes a reply the one at hand. The error is a RestartError, or stays.
func (r *ReplyReader) accept(reply *Reply) error {
	part, _ := strconv.Atoi(reply.Headers[headerPart]) // 0 if it has none
	sameSource := reply.SourceMessageID == r.source
	if r.begun && sameSource && reply.Attempt < r.attempt {
		return nil // unreachable: leases fence
	}
	begins := !r.begun || part == 1 || sameSource && reply.Attempt > r.attempt
	// Replies are numbered all, without a gap up to the last, or not at all.
	if begins && part > 1 || !begins && (r.complete || r.part == 0 && part > 0 || r.part > 0 && part != r.part+1) {
		r.err = r.explain(fmt.Errorf("reply %d is part %d and came after part %d: %w", reply.Sequence, part, r.part, io.ErrUnexpectedEOF))
		return r.err
	}
	dropped := int64(0)
	if begins {
		dropped, r.given = r.given, 0
		r.first, r.begun = reply, true
	}
	r.source, r.attempt, r.part, r.rest = reply.SourceMessageID, reply.Attempt, part, reply.Payload
	r.complete = part > 0 && reply.Headers[headerParts] == reply.Headers[headerPart]
	if dropped > 0 {
		return &RestartError{Attempt: reply.Attempt, Dropped: dropped}
	}
	return nil
}
