package client

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/handles"
)

// Future is a typed value that will come through a pipe: a receive handle that can be awaited. Any number of goroutines
// may await one future, in any process that has its handle, and all get the value. A future encodes as its handle, so it
// can be a field of a message; see [Future.Bind] for the other side.
//
// The value is decoded once and shared by all who await it in this process: do not change what it points to.
type Future[T any] struct {
	client *Client
	handle handles.Handle
	decode func(Reply) (T, error)

	mu      sync.Mutex
	reading *reading[T] // the receive that all share; nil while nobody is interested
	waiting int         // how many await reading
	keep    bool        // Done was asked for: keep reading though nobody awaits
}

// reading is one attempt to get the value.
type reading[T any] struct {
	reader reader
	done   chan struct{} // closed when the pipe has ended, or the attempt has failed
	once   sync.Once     // decodes
	value  T
	err    error
}

// NewFuture makes a future of a receive handle. The value is the pipe's last reply: a Reply as it is, a []byte or string
// the payload, a protobuf message decoded, anything else taken from JSON. See [NewFutureFunc] for other encodings.
// Nothing is sent before somebody awaits it.
func NewFuture[T any](c *Client, receive handles.Handle) *Future[T] {
	return NewFutureFunc(c, receive, decodeReplyAs[T])
}

// NewFutureFunc is [NewFuture] with a decoding function of your own, called once with the last reply.
func NewFutureFunc[T any](c *Client, receive handles.Handle, decode func(Reply) (T, error)) *Future[T] {
	return &Future[T]{client: c, handle: receive, decode: decode}
}

// Bind gives a future that was decoded from a document the client to await it through. Call it before anything else.
func (f *Future[T]) Bind(c *Client) *Future[T] {
	f.client = c
	if f.decode == nil {
		f.decode = decodeReplyAs[T]
	}
	return f
}

// Handle returns the receive handle.
func (f *Future[T]) Handle() handles.Handle { return f.handle }

// MarshalText returns the handle's text form, which is the secret itself.
func (f *Future[T]) MarshalText() ([]byte, error) { return f.handle.MarshalText() }

// UnmarshalText takes the text form of a receive handle. Then [Future.Bind] the future.
func (f *Future[T]) UnmarshalText(text []byte) error { return f.handle.UnmarshalText(text) }

// MarshalJSON returns the handle's text form as a JSON string.
func (f *Future[T]) MarshalJSON() ([]byte, error) { return f.handle.MarshalJSON() }

// UnmarshalJSON takes the text form of a receive handle. Then [Future.Bind] the future.
func (f *Future[T]) UnmarshalJSON(text []byte) error { return f.handle.UnmarshalJSON(text) }

// Await waits for the value. The error is an [*EndError] if the pipe ended otherwise than OK, [ErrNoReply] if it ended
// without a reply, or what decoding said. If ctx ends first, only this waiter leaves: a value that comes later is still
// there for the next Await. Give ctx a deadline: as long as the server has never been reached, the future does not know
// when its pipe ends, and waits on.
func (f *Future[T]) Await(ctx context.Context) (T, error) {
	if f.client == nil {
		var none T
		return none, errUnbound
	}
	r := f.read(false)
	select {
	case <-r.done:
	default:
		select {
		case <-r.done:
		case <-ctx.Done():
			what := r.reader.link.waitsFor("the value")
			f.left(r)
			var none T
			return none, contextError(ctx, what, OutcomeUnspecified)
		}
	}
	r.once.Do(func() { r.resolve(f.decode) })
	f.left(r)
	return r.value, r.err
}

var errUnbound = errors.New("the future has no client: Bind it first")

// Done returns a channel that is closed when the value, or the error, is there. From the first Done on the future keeps
// receiving, also while nobody awaits it. On a future that was not bound, the channel is nil.
func (f *Future[T]) Done() <-chan struct{} {
	if f.client == nil {
		return nil
	}
	return f.read(true).done
}

// read returns the shared receive for one who waits, or keeps it for good. It begins one if there is none.
func (f *Future[T]) read(keep bool) *reading[T] {
	f.mu.Lock()
	if keep {
		f.keep = true
	} else {
		f.waiting++
	}
	r := f.reading
	if r != nil {
		f.mu.Unlock()
		return r
	}
	r = &reading[T]{done: make(chan struct{})}
	r.reader.init(f.client.ctx, f.client.pick(), opReceive, 1)
	r.reader.handle = f.handle.Text()
	r.reader.lastOnly = true
	r.reader.ended = func() { close(r.done) }
	f.reading = r
	f.mu.Unlock()
	// Nobody can detach it before this: whoever began it counts as waiting, or keeps it.
	r.reader.receiveNow()
	return r
}

// left takes a waiter off r. The last one detaches it, unless the value has come or somebody watches Done.
func (f *Future[T]) left(r *reading[T]) {
	f.mu.Lock()
	f.waiting--
	if f.reading != r {
		f.mu.Unlock()
		return
	}
	over := false
	select {
	case <-r.done:
		over = passing(r.reader.failure())
	default:
		over = f.waiting == 0 && !f.keep
	}
	if over {
		f.reading = nil
	}
	f.mu.Unlock()
	if over {
		r.reader.leave()
	}
}

func (r *reading[T]) resolve(decode func(Reply) (T, error)) {
	reply, err := r.reader.last()
	if err != nil {
		r.err = err
		return
	}
	r.value, r.err = decode(reply)
}

// passing tells whether an error says nothing about the pipe, so that trying again may bring the value.
func passing(err error) bool {
	var end *EndError
	var e *Error
	if errors.As(err, &end) || !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case codes.Unavailable, codes.Unauthenticated, codes.Canceled, codes.DeadlineExceeded, codes.Internal:
		return true
	default:
		return false
	}
}

// receiveNow submits a receive without waiting for room in the window.
func (r *reader) receiveNow() {
	r.body = appendReceive(r.body, r.handle, r.next)
	if err := r.link.submitNow(&r.operation); err != nil {
		r.finish(err)
	}
}

// failure is the error the reader ended with.
func (r *reader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
