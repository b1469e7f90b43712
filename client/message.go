package client

import (
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/wire"
)

// Message is what a producer sends. Its memory is the caller's again as soon as the method that took it returns.
type Message struct {
	// Payload is the content. Limit: 1 MiB unless the server says otherwise.
	Payload []byte
	// ContentType says what the payload is, e.g. "application/json". At most 128 bytes; not interpreted by the server.
	ContentType string
	// Headers are for the consumer; at most 64 and 8 KiB, keys are [a-z0-9-]. Trace context goes into "traceparent".
	Headers map[string]string
	// ReplyTo is the send handle of the pipe that awaits the answer, for a producer that has one. Leave it zero for
	// [Client.Call], which opens a pipe of its own.
	ReplyTo handles.Handle
	// Handles are further handles that travel with the message, by name; at most 32.
	Handles map[string]handles.Handle
}

// Answer is what a replier sends: one reply's content. Its memory is the caller's again as soon as the method that took
// it returns.
type Answer struct {
	// Payload is the content; it may be empty. Limit: 1 MiB unless the server says otherwise.
	Payload []byte
	// ContentType says what the payload is, e.g. "application/json".
	ContentType string
	// Headers are for the waiter; limits as in [Message].
	Headers map[string]string
	// Handles travel with the reply, by name: a future is a receive handle in here.
	Handles map[string]handles.Handle
}

// Reply is one item of a pipe, as its readers get it. Its memory is the receiver's.
type Reply struct {
	// Sequence is its place in the pipe, from 1, without gaps.
	Sequence uint64
	// Payload is the content.
	Payload []byte
	// ContentType says what the payload is.
	ContentType string
	// Headers are the replier's; nil if there are none.
	Headers map[string]string
	// Handles came with the reply, by name; nil if there are none.
	Handles map[string]handles.Handle
	// EndedHandles names those of them whose pipes had ended when the reply was sent.
	EndedHandles []string
	// SourceMessageID is the message whose consumer replied, if it named its lease.
	SourceMessageID string
	// Attempt is the number of that delivery. When it rises, an earlier consumer was lost on the way: drop what it had
	// half sent, or not. 0 if no lease was named.
	Attempt uint32
}

// Receipt says that a message was stored.
type Receipt struct {
	// MessageID identifies the message, for logs and administration. It gives no right.
	MessageID string
	// ReceiveHandle is of the pipe that was opened for the answers; zero if none was.
	ReceiveHandle handles.Handle
	// PipeDeadline is when that pipe expires; zero if none was opened.
	PipeDeadline time.Time
	// Duplicate says that an earlier request with the same idempotency key had stored the message already.
	Duplicate bool
	// QueueCreated says that the queue did not exist and was made by this request.
	QueueCreated bool
	// Consumers is how many consumers the queue has now.
	Consumers int
}

func receiptFromWire(p *queuepb.Receipt) (Receipt, error) {
	h, err := handleFromWire(p.GetReceiveHandle())
	if err != nil {
		return Receipt{}, err
	}
	r := Receipt{
		MessageID: p.GetMessageId(), ReceiveHandle: h, Duplicate: p.GetDuplicate(),
		QueueCreated: p.GetQueueCreated(), Consumers: int(p.GetConsumers()),
	}
	if p.GetPipeDeadline() != nil {
		r.PipeDeadline = p.GetPipeDeadline().AsTime()
	}
	return r, nil
}

// decodeReceipt takes a Receipt apart by hand: it comes for every message. decode_test.go holds it against the generated
// code.
func decodeReceipt(b []byte) (r Receipt, err error) {
	var f wire.Field
	for len(b) > 0 {
		if b, err = f.Next(b); err != nil {
			return Receipt{}, errMalformed
		}
		switch f.Num {
		case 1:
			r.MessageID = string(f.Bytes)
		case 2:
			token := tokenOf(f.Bytes)
			if token == "" {
				continue
			}
			if r.ReceiveHandle, err = handles.Parse(token); err != nil {
				return Receipt{}, err
			}
		case 3:
			r.PipeDeadline = timeOf(f.Bytes)
		case 4:
			r.Duplicate = f.Number != 0
		case 5:
			r.QueueCreated = f.Number != 0
		case 6:
			r.Consumers = int(uint32(f.Number)) //nolint:gosec // as the contract has it
		}
	}
	return r, nil
}

// receiptIn is a response that has a receipt as its first field, as EnqueueResponse and an item's result have.
type receiptIn struct {
	receipt Receipt
	refusal *Error // instead, in an item's result
}

// UnmarshalVT decodes it.
func (r *receiptIn) UnmarshalVT(b []byte) error {
	var f wire.Field
	var err error
	for len(b) > 0 && err == nil {
		if b, err = f.Next(b); err != nil {
			return errMalformed
		}
		switch f.Num {
		case 1:
			r.receipt, err = decodeReceipt(f.Bytes)
		case 2:
			var p queuepb.Error
			if err = p.UnmarshalVT(f.Bytes); err == nil {
				r.refusal = fromWire(&p)
			}
		}
	}
	return err
}

// handleFromWire gives the zero handle for none.
func handleFromWire(p *queuepb.Handle) (handles.Handle, error) {
	if p.GetToken() == "" {
		return handles.Handle{}, nil
	}
	return handles.Parse(p.GetToken())
}
