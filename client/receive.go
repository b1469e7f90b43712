package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// Receive gives the replies of a pipe from a sequence on (0 and 1 are the first) as they come. It ends after the last
// one when the pipe ends OK, else with an [*EndError] and an empty reply. Many may receive from one pipe, and each gets
// everything. Breaking off, or the end of ctx, only detaches: the pipe stays as it is, and one may come back.
//
// Replies that are no longer kept are an [*Error] with [ReasonRepliesTrimmed]; its metadata first_sequence names the
// first that is.
func (c *Client) Receive(ctx context.Context, handle handles.Handle, fromSequence uint64) iter.Seq2[Reply, error] {
	return func(yield func(Reply, error) bool) {
		r := c.newReader(ctx, handle, fromSequence)
		defer r.leave()
		for {
			reply, ok, err := r.take()
			if err != nil {
				yield(Reply{}, fmt.Errorf("receive: %w", err))
				return
			}
			if !ok || !yield(reply, nil) {
				return
			}
		}
	}
}

// newReader makes and submits a reader of a pipe.
func (c *Client) newReader(ctx context.Context, handle handles.Handle, from uint64) *reader {
	r := new(reader)
	r.init(ctx, c.pick(), opReceive, from)
	r.handle = handle.Text()
	r.body = appendReceive(r.body, r.handle, r.next)
	if err := r.link.submit(r.ctx, &r.operation); err != nil {
		r.finish(err)
	}
	return r
}

func appendReceive(b []byte, token string, from uint64) []byte {
	return appendRequest(b, opReceive, &queuepb.ReceiveRequest{Handle: &queuepb.Handle{Token: token}, FromSequence: from})
}

// leave detaches a reader that has not ended.
func (r *reader) leave() {
	r.finish(errLeft)
	r.link.leave(&r.operation)
}

// errLeft ends a reader that nobody reads any more; nobody sees it.
var errLeft = errors.New("left")
