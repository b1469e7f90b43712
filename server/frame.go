package server

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A frame turns the broker's events into results, for both faces: the plain face takes the response out of the result.
//
// In a session it is used again for the next frame, together with the messages of the four frequent kinds of result,
// which lie in blocks, one allocation each: a delivery is made of eleven messages, and at a hundred thousand a second
// the collector would see little else. What a frame has made is valid until reset.
//
// A message or reply is not decoded on its way out. Its body, as the broker kept it, is the encoding of some fields of
// queuepb.Message or queuepb.Reply; set as the unknown fields of a message that has the others, it is written out
// behind them, and the receiver's decoder takes both together. TestRawBody compares with the decoded form.
type frame struct {
	keys *handles.KeyRing
	out  queuepb.SessionResponse

	deliveries slab[deliveryBlock]
	replies    slab[replyBlock]
	receipts   slab[receiptBlock]
	outcomes   slab[outcomeBlock]
}

// A slab is a list of blocks that are used again.
type slab[T any] struct {
	blocks []*T
	used   int
}

func (s *slab[T]) next() *T {
	if s.used == len(s.blocks) {
		s.blocks = append(s.blocks, new(T))
	}
	s.used++
	return s.blocks[s.used-1]
}

// reset clears the blocks, which hold payloads.
func (s *slab[T]) reset() {
	var zero T
	for _, b := range s.blocks[:s.used] {
		*b = zero
	}
	s.used = 0
}

func (f *frame) reset() {
	f.deliveries.reset()
	f.replies.reset()
	f.receipts.reset()
	f.outcomes.reset()
	results := f.out.Results
	clear(results)
	f.out.Reset()
	f.out.Results = results[:0]
}

type deliveryBlock struct {
	result       queuepb.Result
	consume      queuepb.Result_Consume
	response     queuepb.ConsumeResponse
	event        queuepb.ConsumeResponse_Delivery
	delivery     queuepb.Delivery
	message      queuepb.Message
	lease        queuepb.Handle
	replyTo      queuepb.Handle
	leaseExpires timestamppb.Timestamp
	enqueuedAt   timestamppb.Timestamp
	deadline     timestamppb.Timestamp
}

type replyBlock struct {
	result          queuepb.Result
	call            queuepb.Result_Call
	callResponse    queuepb.CallResponse
	callReply       queuepb.CallResponse_Reply
	callEnd         queuepb.CallResponse_End
	receive         queuepb.Result_Receive
	receiveResponse queuepb.ReceiveResponse
	receiveReply    queuepb.ReceiveResponse_Reply
	receiveEnd      queuepb.ReceiveResponse_End
	reply           queuepb.Reply
	end             queuepb.End
}

type receiptBlock struct {
	result          queuepb.Result
	call            queuepb.Result_Call
	callResponse    queuepb.CallResponse
	callReceipt     queuepb.CallResponse_Receipt
	enqueue         queuepb.Result_Enqueue
	enqueueResponse queuepb.EnqueueResponse
	receipt         queuepb.Receipt
	handle          queuepb.Handle
	deadline        timestamppb.Timestamp
}

type outcomeBlock struct {
	result   queuepb.Result
	reply    queuepb.Result_Reply
	response queuepb.ReplyResponse
	outcome  queuepb.ReplyResult
}

// result turns an event into a result.
func (f *frame) result(k kind, id uint64, done bool, body any) *queuepb.Result {
	var r *queuepb.Result
	switch body := body.(type) {
	case *broker.Delivery:
		r = f.delivery(body)
	case *broker.ReplyItem:
		r = f.reply(k, body)
	case *broker.End:
		r = f.end(k, body)
	case *broker.Receipt:
		r = f.enqueued(k, body)
	case *broker.ReplyResult:
		r = f.replied(body)
	default:
		r = f.other(body)
	}
	r.Id, r.Done = id, done
	return r
}

func (f *frame) delivery(d *broker.Delivery) *queuepb.Result {
	b := f.deliveries.next()
	b.lease.Token = f.keys.Mint(d.Lease).Text()
	b.delivery.MessageId = d.Message.String()
	b.delivery.Queue = d.Queue
	b.delivery.Lease = &b.lease
	b.delivery.LeaseExpiresAt = setTime(&b.leaseExpires, d.LeaseExpires)
	b.delivery.Attempt = d.Attempt
	b.delivery.Failures = d.Failures
	b.delivery.EnqueuedAt = setTime(&b.enqueuedAt, d.EnqueuedAt)
	b.delivery.Deadline = setTime(&b.deadline, d.Deadline)
	b.delivery.EndedHandles = d.Ended
	if d.ReplyTo.Kind != 0 {
		b.replyTo.Token = f.keys.Mint(d.ReplyTo).Text()
		b.message.ReplyTo = &b.replyTo
	}
	if len(d.Body) > 0 {
		b.message.ProtoReflect().SetUnknown(d.Body)
	}
	b.delivery.Message = &b.message
	b.event.Delivery = &b.delivery
	b.response.Event = &b.event
	b.consume.Consume = &b.response
	b.result.Response = &b.consume
	return &b.result
}

func (f *frame) reply(k kind, item *broker.ReplyItem) *queuepb.Result {
	b := f.replies.next()
	b.reply.Sequence = item.Sequence
	if !item.Source.IsZero() {
		b.reply.SourceMessageId = item.Source.String()
	}
	b.reply.Attempt = item.Attempt
	b.reply.EndedHandles = item.Ended
	if len(item.Body) > 0 {
		b.reply.ProtoReflect().SetUnknown(item.Body)
	}
	b.callReply.Reply, b.receiveReply.Reply = &b.reply, &b.reply
	b.callResponse.Event, b.receiveResponse.Event = &b.callReply, &b.receiveReply
	return b.answer(k)
}

func (f *frame) end(k kind, end *broker.End) *queuepb.Result {
	b := f.replies.next()
	f.setEnd(&b.end, end)
	b.callEnd.End, b.receiveEnd.End = &b.end, &b.end
	b.callResponse.Event, b.receiveResponse.Event = &b.callEnd, &b.receiveEnd
	return b.answer(k)
}

func (f *frame) setEnd(out *queuepb.End, end *broker.End) {
	out.Reason = queuepb.EndReason(end.Reason)
	out.LastSequence = end.LastSequence
	switch {
	case end.Reason == broker.EndOK:
	case end.Reason == broker.EndFailed && len(end.Body) > 0:
		out.Error = &queuepb.Error{}
		out.Error.ProtoReflect().SetUnknown(end.Body)
	default:
		out.Error = endErrorOf(end)
	}
}

// answer wraps a reply or an end for the operation that reads the pipe.
func (b *replyBlock) answer(k kind) *queuepb.Result {
	if k == kindReceive {
		b.receive.Receive = &b.receiveResponse
		b.result.Response = &b.receive
	} else {
		b.call.Call = &b.callResponse
		b.result.Response = &b.call
	}
	return &b.result
}

// receipt is for batches and settles, where it stands alone.
func (f *frame) receipt(r *broker.Receipt) *queuepb.Receipt {
	b := f.receipts.next()
	f.setReceipt(b, r)
	return &b.receipt
}

func (f *frame) setReceipt(b *receiptBlock, r *broker.Receipt) {
	b.receipt.MessageId = r.Message.String()
	if r.Receive.Kind != 0 {
		b.handle.Token = f.keys.Mint(r.Receive).Text()
		b.receipt.ReceiveHandle = &b.handle
	}
	b.receipt.PipeDeadline = setTime(&b.deadline, r.PipeDeadline)
	b.receipt.Duplicate = r.Duplicate
	b.receipt.QueueCreated = r.QueueCreated
	b.receipt.Consumers = r.Consumers
}

func (f *frame) enqueued(k kind, r *broker.Receipt) *queuepb.Result {
	b := f.receipts.next()
	f.setReceipt(b, r)
	if k == kindCall {
		b.callReceipt.Receipt = &b.receipt
		b.callResponse.Event = &b.callReceipt
		b.call.Call = &b.callResponse
		b.result.Response = &b.call
	} else {
		b.enqueueResponse.Receipt = &b.receipt
		b.enqueue.Enqueue = &b.enqueueResponse
		b.result.Response = &b.enqueue
	}
	return &b.result
}

func (f *frame) replied(r *broker.ReplyResult) *queuepb.Result {
	b := f.outcomes.next()
	setOutcome(&b.outcome, r)
	b.response.Result = &b.outcome
	b.reply.Reply = &b.response
	b.result.Response = &b.reply
	return &b.result
}

func setOutcome(out *queuepb.ReplyResult, r *broker.ReplyResult) {
	out.Outcome = queuepb.ReplyOutcome(r.Outcome)
	out.EndReason = queuepb.EndReason(r.EndReason)
	out.Sequence = r.Sequence
}

// other are the results that are not frequent enough for blocks.
func (f *frame) other(body any) *queuepb.Result {
	r := &queuepb.Result{}
	switch body := body.(type) {
	case *broker.Error:
		r.Response = &queuepb.Result_Error{Error: toError(body)}
	case *broker.Started:
		r.Response = consumeEvent(&queuepb.ConsumeResponse{Event: &queuepb.ConsumeResponse_Started{Started: &queuepb.ConsumeStarted{
			ConsumerId: body.ConsumerID, CreatedQueues: body.Created,
		}}})
	case *broker.WaiterGone:
		r.Response = consumeEvent(&queuepb.ConsumeResponse{Event: &queuepb.ConsumeResponse_WaiterGone{WaiterGone: &queuepb.WaiterGone{
			MessageId: body.Message.String(), Attempt: body.Attempt, Reason: queuepb.EndReason(body.Reason),
		}}})
	case *broker.LeaseLost:
		r.Response = consumeEvent(&queuepb.ConsumeResponse{Event: &queuepb.ConsumeResponse_LeaseLost{LeaseLost: &queuepb.LeaseLost{
			MessageId: body.Message.String(), Attempt: body.Attempt, Message: body.Text,
		}}})
	case *broker.Attached:
		r.Response = &queuepb.Result_Receive{Receive: &queuepb.ReceiveResponse{
			Event: &queuepb.ReceiveResponse_Attached{Attached: &queuepb.Attached{
				Deadline: newTime(body.Deadline), FirstSequence: body.FirstSequence, NextSequence: body.NextSequence,
			}},
		}}
	case *broker.Settled:
		r.Response = &queuepb.Result_Settle{Settle: f.settled(body)}
	case *broker.Extended:
		r.Response = &queuepb.Result_ExtendLeases{ExtendLeases: extended(body)}
	case *broker.Stopping:
		r.Response = &queuepb.Result_StopConsuming{
			StopConsuming: &queuepb.StopConsumingResponse{InFlight: body.InFlight},
		}
	case *broker.PipeOpened:
		r.Response = &queuepb.Result_OpenPipe{OpenPipe: &queuepb.OpenPipeResponse{
			SendHandle:    &queuepb.Handle{Token: f.keys.Mint(body.Send).Text()},
			ReceiveHandle: &queuepb.Handle{Token: f.keys.Mint(body.Receive).Text()},
			Deadline:      newTime(body.Deadline),
		}}
	case *broker.Cancelled:
		r.Response = &queuepb.Result_Cancel{
			Cancel: &queuepb.CancelResponse{Cancelled: body.Now, Reason: queuepb.EndReason(body.Reason)},
		}
	case *broker.Description:
		r.Response = &queuepb.Result_Describe{Describe: f.described(body)}
	case *queuepb.GetServerInfoResponse:
		r.Response = &queuepb.Result_GetServerInfo{GetServerInfo: body}
	case *queuepb.EnqueueBatchResponse:
		r.Response = &queuepb.Result_EnqueueBatch{EnqueueBatch: body}
	}
	return r // without a response: the operation is over, and there is nothing more to say
}

func consumeEvent(response *queuepb.ConsumeResponse) *queuepb.Result_Consume {
	return &queuepb.Result_Consume{Consume: response}
}

func (f *frame) settled(s *broker.Settled) *queuepb.SettleResponse {
	out := &queuepb.SettleResponse{Already: s.Already, Dead: s.Dead}
	for i := range s.Replies {
		result := &queuepb.ReplyResult{}
		setOutcome(result, &s.Replies[i])
		out.Replies = append(out.Replies, result)
	}
	for i := range s.Receipts {
		out.Receipts = append(out.Receipts, f.receipt(&s.Receipts[i]))
	}
	return out
}

func extended(e *broker.Extended) *queuepb.ExtendLeasesResponse {
	out := &queuepb.ExtendLeasesResponse{Results: make([]*queuepb.ExtendLeaseResult, len(e.Leases))}
	for i, l := range e.Leases {
		result := &queuepb.ExtendLeaseResult{ExpiresAt: newTime(l.Expires), WaiterGone: l.WaiterGone}
		if l.Err != nil {
			result.ExpiresAt, result.Error = nil, toError(l.Err)
		}
		out.Results[i] = result
	}
	return out
}

func (f *frame) described(d *broker.Description) *queuepb.DescribeResponse {
	out := &queuepb.DescribeResponse{
		State:         queuepb.WaitState(d.State),
		Summary:       d.Summary,
		Deadline:      newTime(d.Deadline),
		FirstSequence: d.FirstSequence,
		NextSequence:  d.NextSequence,
		Readers:       d.Readers,
		Outside:       d.Outside,
	}
	if d.End != nil {
		out.End = &queuepb.End{}
		f.setEnd(out.End, d.End)
	}
	for _, c := range d.Carriers {
		info := &queuepb.CarrierInfo{
			Queue:     c.Queue,
			State:     queuepb.MessageState(c.State),
			Position:  c.Position,
			Attempts:  c.Attempts,
			Failures:  c.Failures,
			Until:     newTime(c.Until),
			Consumers: c.Consumers,
		}
		if !c.Message.IsZero() {
			info.MessageId = c.Message.String()
		}
		out.Carriers = append(out.Carriers, info)
	}
	return out
}

// setTime sets t, or returns nil for no time.
func setTime(t *timestamppb.Timestamp, at broker.Time) *timestamppb.Timestamp {
	if at == 0 {
		return nil
	}
	const second = 1_000_000_000
	t.Seconds, t.Nanos = int64(at)/second, int32(int64(at)%second)
	if t.Nanos < 0 {
		t.Seconds, t.Nanos = t.Seconds-1, t.Nanos+second
	}
	return t
}

func newTime(at broker.Time) *timestamppb.Timestamp { return setTime(&timestamppb.Timestamp{}, at) }

// isItem reports whether an event takes of a session's byte credit: deliveries and replies do.
func isItem(body any) bool {
	switch body.(type) {
	case *broker.Delivery, *broker.ReplyItem:
		return true
	}
	return false
}
