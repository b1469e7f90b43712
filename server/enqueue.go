package server

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/buffers"
	"github.com/replyq/replyq/internal/wire"
)

// enqueueRequest is what EnqueueRequest and CallRequest have in common; the contract keeps their fields the same.
type enqueueRequest interface {
	GetQueue() string
	GetMessage() *queuepb.Message
	GetPipe() *queuepb.PipeOptions
	GetDelay() *durationpb.Duration
	GetDeliverAt() *timestamppb.Timestamp
	GetExpiry() *durationpb.Duration
	GetPriority() uint32
	GetGroup() string
	GetIdempotencyKey() string
	GetRequireConsumer() bool
}

// Enqueue implements the RPC.
func (s *service) Enqueue(ctx context.Context, req *queuepb.EnqueueRequest) (*queuepb.EnqueueResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_Enqueue{Enqueue: req})
	return res.GetEnqueue(), err
}

// enqueue checks and converts a message to enqueue, from whichever request it came.
func (c *caller) enqueue(req enqueueRequest, lenient bool) (*madeEnqueue, *broker.Error) {
	queue := req.GetQueue()
	if queue != c.queue || queue == "" { // most requests name the queue of the one before, and share its checked copy
		if err := checkQueue(queue, "queue"); err != nil {
			return nil, err
		}
		c.queue = strings.Clone(queue) // the request's bytes are those of a whole frame
	}
	out := c.newEnqueue()
	out.Queue, out.RequireConsumer = c.queue, req.GetRequireConsumer()
	if err := c.enqueueForm(&out.Enqueue, req); err != nil {
		return nil, err
	}
	if err := c.message(&out.Enqueue, req.GetMessage(), lenient); err != nil {
		return nil, err
	}
	return out, nil
}

// enqueueForm checks and converts all but queue, message and pipe.
func (c *caller) enqueueForm(out *broker.Enqueue, req enqueueRequest) *broker.Error {
	if p := req.GetPriority(); p > maxPriority {
		return refuse(reasonPriorityInvalid, "priority", "use 0 to 9; 9 is delivered first")
	}
	out.Priority = uint8(req.GetPriority())
	if g := req.GetGroup(); g != "" {
		if err := checkText(g, maxGroup, reasonGroupInvalid, "group"); err != nil {
			return err
		}
		out.Group = strings.Clone(g)
	}
	if k := req.GetIdempotencyKey(); k != "" {
		if err := checkText(k, maxIdempotencyKey, reasonIdempotencyKeyInvalid, "idempotency_key"); err != nil {
			return err
		}
	}
	if d := req.GetDelay(); d != nil {
		delay, err := duration(d, "delay")
		if err != nil {
			return err
		}
		if delay < 0 || delay > maxDelay {
			return refuse(broker.ReasonDelayInvalid, "delay", "use 0 to 365 days")
		}
		out.Delay = delay
	}
	if t := req.GetDeliverAt(); t != nil {
		at, err := timestamp(t, "deliver_at")
		if err != nil {
			return err
		}
		if req.GetDelay() != nil {
			return refuse(broker.ReasonDelayInvalid, "deliver_at", "set delay or deliver_at, not both")
		}
		if at.Std().Sub(c.now) > maxDelay {
			return refuse(broker.ReasonDelayInvalid, "deliver_at", "use a time within 365 days")
		}
		out.NotBefore = at
	}
	if d := req.GetExpiry(); d != nil {
		expiry, err := duration(d, "expiry")
		if err != nil {
			return err
		}
		if expiry <= 0 || expiry > maxDelay {
			return refuse(reasonExpiryInvalid, "expiry", "use more than 0 and at most 365 days, or leave it unset")
		}
		out.Expiry = expiry
	}
	return nil
}

// message checks a message and sets what of it the broker gets: its encoding, which the broker keeps and hands on
// unread, and its handles.
func (c *caller) message(out *broker.Enqueue, m *queuepb.Message, lenient bool) *broker.Error {
	if m == nil {
		return nil
	}
	if err := c.srv.limits.checkPayload(m.Payload, "message.payload"); err != nil {
		return err
	}
	if err := checkHeaders(m.ContentType, m.Headers, "message.content_type", "message.headers"); err != nil {
		return err
	}
	// A message of its own: m may have unknown fields, which end here.
	stored := queuepb.Message{Payload: m.Payload, ContentType: m.ContentType, Headers: m.Headers}
	if m.ReplyTo != nil {
		h, err := c.carried(m.ReplyTo, handles.Send, lenient)
		if err != nil {
			err.Field = "message.reply_to"
			return err
		}
		out.ReplyTo = h
		stored.ReplyTo = &queuepb.Handle{Token: m.ReplyTo.Token}
	}
	if len(m.Handles) > 0 {
		named, err := c.namedHandles(m.Handles, "message.handles", lenient)
		if err != nil {
			return err
		}
		out.Cargo.Handles = named
		stored.Handles = plainHandles(m.Handles)
	}
	out.Cargo.Found = c.foundInHeaders(c.found(nil, m.Payload), m.Headers)
	if stored.ReplyTo == nil && len(stored.Headers) == 0 && len(stored.Handles) == 0 {
		out.Body = c.contentBody(1, 2, m.Payload, m.ContentType)
		return nil
	}
	body, err := stored.MarshalVT()
	if err != nil {
		return errInternal() // unreachable: the generated code returns none for plain messages
	}
	out.Body = body
	return nil
}

// contentBody encodes what most messages and replies have: a payload and a content type, in fields of these numbers.
// What is large is not copied if that can be helped, and not cleared before it is.
func (c *caller) contentBody(payloadField, typeField protowire.Number, payload []byte, contentType string) []byte {
	if c.content != nil && len(c.content) == contentSize(payload, contentType) {
		return c.content
	}
	if len(payload) >= buffers.Large {
		head := protowire.AppendVarint(protowire.AppendTag(nil, payloadField, protowire.BytesType), uint64(len(payload)))
		return bytes.Join([][]byte{head, payload, wire.AppendText(nil, typeField, contentType)}, nil)
	}
	b := make([]byte, 0, 2+protowire.SizeBytes(len(payload))+protowire.SizeBytes(len(contentType)))
	if len(payload) > 0 {
		b = wire.AppendBytes(b, payloadField, payload)
	}
	return wire.AppendText(b, typeField, contentType)
}

// contentSize is how long these two are in the shortest encoding there is. What came longer has numbers of more bytes than
// they need, which decoders in other languages may not take, or fields twice.
func contentSize(payload []byte, contentType string) int {
	n := 1 + protowire.SizeBytes(len(payload))
	if contentType != "" {
		n += 1 + protowire.SizeBytes(len(contentType))
	}
	return n
}

// enqueueWithPipe is a whole EnqueueRequest.
func (c *caller) enqueueWithPipe(req *queuepb.EnqueueRequest) (*broker.Enqueue, *broker.Error) {
	out, err := c.enqueue(req, false)
	if err != nil {
		return nil, err
	}
	if req.Pipe == nil {
		out.Key = key(req, &out.Enqueue)
		return &out.Enqueue, nil
	}
	if req.Message.GetReplyTo() != nil {
		return nil, refuse(reasonReplyToAndPipe, "pipe", "set message.reply_to or pipe, not both: "+
			"with pipe the server makes the reply_to")
	}
	if err = c.openPipeWith(out, req.Pipe, 0); err != nil {
		return nil, err
	}
	out.Key = key(req, &out.Enqueue)
	return &out.Enqueue, nil
}

// call is a whole CallRequest. timeout is that of the pipe if the request names none.
func (c *caller) call(req *queuepb.CallRequest, timeout time.Duration) (*broker.Enqueue, *broker.Error) {
	if req.Message.GetReplyTo() != nil {
		return nil, refuse(reasonReplyToAndPipe, "message.reply_to",
			"Call opens a pipe of its own: leave reply_to unset, or use Enqueue")
	}
	out, err := c.enqueue(req, false)
	if err != nil {
		return nil, err
	}
	if err = c.openPipeWith(out, req.Pipe, timeout); err != nil {
		return nil, err
	}
	out.Call, out.FromSequence = true, req.FromSequence
	out.Key = key(req, &out.Enqueue)
	return &out.Enqueue, nil
}

// openPipeWith checks and converts the options of the pipe that a message opens.
func (c *caller) openPipeWith(out *madeEnqueue, options *queuepb.PipeOptions, timeout time.Duration) (err *broker.Error) {
	out.pipe, err = c.pipeOptions(options, timeout)
	out.Pipe = &out.pipe
	return err
}

// EnqueueBatch implements the RPC.
func (s *service) EnqueueBatch(
	ctx context.Context, req *queuepb.EnqueueBatchRequest,
) (*queuepb.EnqueueBatchResponse, error) {
	c := s.caller(ctx)
	if err := c.checkBatch(req); err != nil {
		return nil, err
	}
	b := newBatch(len(req.Items))
	ops := make([]broker.Op, 0, len(req.Items))
	for i, item := range req.Items {
		ops = c.batchItem(b, i, item, uint64(i)+1, ops) //nolint:gosec // small
	}
	if b.left > 0 {
		bs := c.tenure.broker.Attach(c.id, broker.SessionOptions{})
		defer bs.Close()
		bs.Submit(ops)
		var events []broker.Event
		for b.left > 0 {
			over := c.isOver(bs)
			events = bs.Take(events[:0])
			for i := range events {
				b.set(int(events[i].Op)-1, events[i].Body)
			}
			if b.left > 0 {
				if over != nil {
					return nil, over
				}
				if err := c.wait(ctx, bs); err != nil {
					return nil, err
				}
			}
		}
	}
	f := frame{keys: s.keys}
	return f.batch(b), nil
}

// checkBatch checks the form of a batch as a whole.
func (c *caller) checkBatch(req *queuepb.EnqueueBatchRequest) *broker.Error {
	if err := checkBatchItems(len(req.Items)); err != nil {
		return err
	}
	if size := req.SizeVT(); size > c.srv.limits.frame {
		return refuse(reasonBatchTooLarge, "items", fmt.Sprintf(
			"%d bytes, the limit is %d: split the batch", size, c.srv.limits.frame))
	}
	return nil
}

func checkBatchItems(n int) *broker.Error {
	if n == 0 {
		return refuse(reasonBatchEmpty, "items", "put at least one item into the batch")
	}
	if n > maxBatchItems {
		return refuse(reasonBatchTooLarge, "items", fmt.Sprintf(
			"%d items, the limit is %d: split the batch", n, maxBatchItems))
	}
	return nil
}

// A batch collects the results of an EnqueueBatch, whose items the broker takes one by one.
type batch struct {
	results []batchResult
	left    int // items without a result
	refused bool
}

// batchResult is what became of one item.
type batchResult struct {
	receipt broker.Receipt
	err     *broker.Error
}

func newBatch(items int) *batch { return &batch{results: make([]batchResult, items)} }

// batchItem checks an item and appends an operation for it; a bad one has its result at once.
func (c *caller) batchItem(b *batch, i int, item *queuepb.EnqueueRequest, id uint64, ops []broker.Op) []broker.Op {
	enqueue, err := c.enqueueWithPipe(item)
	if err != nil {
		b.refuse(i, err)
		return ops
	}
	b.left++
	return append(ops, broker.Op{ID: id, Request: enqueue})
}

// set takes the broker's answer to item i.
func (b *batch) set(i int, body any) {
	b.left--
	switch body := body.(type) {
	case *broker.Receipt:
		b.results[i].receipt = *body
	case *broker.Error:
		b.refuse(i, body)
	}
}

func (b *batch) refuse(i int, err *broker.Error) {
	b.results[i].err, b.refused = under(fmt.Sprintf("items[%d]", i), err), true
}
