package client

import (
	"context"
	"errors"
	"strconv"

	"github.com/replyq/replyq/handles"
)

// A value that is too large for one reply, or that is not known as a whole when its first bytes are, travels as several:
// its parts, in order. Each has the header "part", its number from 1, and the last one has "parts" besides, how many
// there were: so that a value whose writer got lost on the way is never taken for a whole one. Any client in any
// language can write and read that.
const (
	headerPart  = "part"
	headerParts = "parts"
)

// defaultPart is how many bytes a part has: few enough not to hold others up for long, and enough for the way to the
// server and back, which each part costs, not to count.
const defaultPart = 256 << 10

// WriterOptions says how a [ReplyWriter] sends. Zero fields have their defaults.
type WriterOptions struct {
	// PartSize is how many bytes are gathered for one reply. Default 256 KiB; at most what the server takes as a payload.
	PartSize int
	// ContentType is what the value is.
	ContentType string
	// Headers and Handles go with the first part. "part" and "parts" are the writer's own.
	Headers map[string]string
	Handles map[string]handles.Handle
}

// ReplyWriter sends a value of any size as several replies. Its counterpart is a [ReplyReader]. It belongs to one
// goroutine at a time.
//
// A pipe that is full, since its reader is slow, holds Write up until there is room or the writer's context ends; nobody
// else is held up by that. Up to 1 MiB of a delivery's answer is on its way meanwhile, see [ReplyStream]; a bare handle's
// is sent part by part. The error is [ErrWaiterGone] once nobody waits for the value any more; errors stay.
type ReplyWriter struct {
	ctx     context.Context
	send    func(a *Answer, last bool) (ReplyOutcome, error)
	fail    func(err error) error
	link    *link
	options WriterOptions
	buf     []byte
	parts   int // sent
	closed  bool
	err     error
}

// NewWriter returns a writer of the delivery's answer. [ReplyWriter.Close] sends the end of it and acks the delivery, in
// one step. A handler ends with it:
//
//	w := d.NewWriter(ctx, client.WriterOptions{})
//	if err := writeReport(w); err != nil {
//		return nil, err // ends the waiter's pipe: it sees that the report is not whole
//	}
//	return nil, w.Close()
//
// All parts are sent under the delivery's lease: if that is lost, Write fails with [ReasonLeaseStale], and the reader
// learns from the number of the next attempt that the value begins anew. If the message has no reply_to, what is written
// goes nowhere.
func (d *Delivery) NewWriter(ctx context.Context, options WriterOptions) *ReplyWriter {
	return &ReplyWriter{
		ctx: ctx, options: options, link: d.consumer.link,
		send: func(a *Answer, last bool) (ReplyOutcome, error) {
			if last {
				return d.Reply(ctx, *a)
			}
			return ReplyOutcome{}, d.ReplyStream(ctx).Send(*a)
		},
		fail: func(err error) error {
			_, err = d.ReplyError(ctx, err)
			return err
		},
	}
}

// NewWriter returns a writer of a value for the holder of a bare send handle. [ReplyWriter.Close] ends the pipe.
func (c *Client) NewWriter(ctx context.Context, send handles.Handle, options WriterOptions) *ReplyWriter {
	l := c.pick() // the same for all parts, so that they keep their order
	return &ReplyWriter{
		ctx: ctx, options: options, link: l,
		send: func(a *Answer, last bool) (ReplyOutcome, error) {
			return c.reply(ctx, l, &replyRequest{to: send.Text(), answer: a, more: !last}, nil)
		},
		fail: func(err error) error {
			_, err = c.reply(ctx, l, &replyRequest{to: send.Text(), err: err}, nil)
			return err
		},
	}
}

// errWriterClosed is the error of a Write after Close.
var errWriterClosed = errors.New("write to a closed ReplyWriter")

// Write implements io.Writer.
func (w *ReplyWriter) Write(p []byte) (n int, err error) {
	if w.closed && w.err == nil {
		return 0, errWriterClosed
	}
	size := w.partSize()
	for len(p) > 0 && w.err == nil {
		// A full part goes out only when more comes, so that the last one is never empty without need.
		switch {
		case len(w.buf) >= size:
			w.sendPart(w.buf, false)
			w.buf = w.buf[:0]
			continue
		case len(w.buf) == 0 && len(p) > size: // without a copy
			w.sendPart(p[:size], false)
			if w.err == nil {
				n += size
				p = p[size:]
			}
			continue
		}
		k := min(size-len(w.buf), len(p))
		w.buf = append(w.buf, p[:k]...)
		n += k
		p = p[k:]
	}
	return n, w.err
}

// Flush sends what was written so far: for values that are made slowly.
func (w *ReplyWriter) Flush() error {
	if len(w.buf) > 0 && w.err == nil {
		w.sendPart(w.buf, false)
		w.buf = w.buf[:0]
	}
	return w.err
}

// Close sends what is left as the last part, which ends the pipe, and settles the delivery if there is one. Closing
// again does nothing. After an error it only returns that, and the delivery is left to be settled otherwise: by the
// error that the handler returns, say.
func (w *ReplyWriter) Close() error {
	if !w.closed && w.err == nil {
		w.sendPart(w.buf, true)
	}
	w.closed, w.buf = true, nil
	return w.err
}

// CloseWithError ends the pipe with an error instead, which the reader gets with [ErrFailed], see [Client.ReplyError],
// and settles the delivery if there is one.
func (w *ReplyWriter) CloseWithError(err error) error {
	if !w.closed && w.err == nil {
		w.err = w.fail(err)
	}
	w.closed, w.buf = true, nil
	return w.err
}

func (w *ReplyWriter) partSize() int {
	size := w.options.PartSize
	if size <= 0 {
		size = defaultPart
	}
	w.link.mu.Lock()
	defer w.link.mu.Unlock()
	if most := w.link.maxPayload; most > 0 {
		size = min(size, most)
	}
	return size
}

// sendPart sends a part; the error is kept.
func (w *ReplyWriter) sendPart(payload []byte, last bool) {
	a := &Answer{Payload: payload, ContentType: w.options.ContentType, Headers: make(map[string]string, len(w.options.Headers)+2)}
	if w.parts == 0 {
		for k, v := range w.options.Headers {
			a.Headers[k] = v
		}
		a.Handles = w.options.Handles
	}
	a.Headers[headerPart] = strconv.Itoa(w.parts + 1)
	if last {
		a.Headers[headerParts] = strconv.Itoa(w.parts + 1)
	}
	outcome, err := w.send(a, last)
	switch {
	case err != nil:
		w.err = err
	case outcome.Gone() && !last: // at the end nothing is left that could be stopped
		w.err = ErrWaiterGone
	default:
		w.parts++
	}
}
