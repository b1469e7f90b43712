package server

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A frame turns the broker's events into results: for the plain face, which takes the response out of the result, and
// for the kinds of result that sessions have seldom, see [outFrame].
//
// A message or reply is not decoded on its way out. Its body, as the broker kept it, is the encoding of some fields of
// queuepb.Message or queuepb.Reply; set as the unknown fields of a message that has the others, it is written out
// behind them, and the receiver's decoder takes both together. TestRawBody compares with the decoded form.
type frame struct {
	keys *handles.KeyRing
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
	message := &queuepb.Message{ReplyTo: f.handle(d.ReplyTo)}
	if len(d.Body) > 0 {
		message.ProtoReflect().SetUnknown(d.Body)
	}
	return &queuepb.Result{Response: consumeEvent(&queuepb.ConsumeResponse{
		Event: &queuepb.ConsumeResponse_Delivery{Delivery: &queuepb.Delivery{
			MessageId:      d.Message.String(),
			Queue:          d.Queue,
			Lease:          f.handle(d.Lease),
			LeaseExpiresAt: newTime(d.LeaseExpires),
			Attempt:        d.Attempt,
			Failures:       d.Failures,
			Message:        message,
			EnqueuedAt:     newTime(d.EnqueuedAt),
			Deadline:       newTime(d.Deadline),
			EndedHandles:   d.Ended,
			Priority:       uint32(d.Priority),
			Group:          d.Group,
		}},
	})}
}

// handle mints a token; nil for the claim of no handle.
func (f *frame) handle(c handles.Claims) *queuepb.Handle {
	if c.Kind == 0 {
		return nil
	}
	return &queuepb.Handle{Token: f.keys.Mint(c).Text()}
}

func (f *frame) reply(k kind, item *broker.ReplyItem) *queuepb.Result {
	reply := &queuepb.Reply{Sequence: item.Sequence, Attempt: item.Attempt, EndedHandles: item.Ended}
	if !item.Source.IsZero() {
		reply.SourceMessageId = item.Source.String()
	}
	if len(item.Body) > 0 {
		reply.ProtoReflect().SetUnknown(item.Body)
	}
	if k == kindReceive {
		return received(&queuepb.ReceiveResponse{Event: &queuepb.ReceiveResponse_Reply{Reply: reply}})
	}
	return called(&queuepb.CallResponse{Event: &queuepb.CallResponse_Reply{Reply: reply}})
}

func (f *frame) end(k kind, end *broker.End) *queuepb.Result {
	out := &queuepb.End{}
	f.setEnd(out, end)
	if k == kindReceive {
		return received(&queuepb.ReceiveResponse{Event: &queuepb.ReceiveResponse_End{End: out}})
	}
	return called(&queuepb.CallResponse{Event: &queuepb.CallResponse_End{End: out}})
}

func received(response *queuepb.ReceiveResponse) *queuepb.Result {
	return &queuepb.Result{Response: &queuepb.Result_Receive{Receive: response}}
}

func called(response *queuepb.CallResponse) *queuepb.Result {
	return &queuepb.Result{Response: &queuepb.Result_Call{Call: response}}
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

func (f *frame) receipt(r *broker.Receipt) *queuepb.Receipt {
	return &queuepb.Receipt{
		MessageId:     r.Message.String(),
		ReceiveHandle: f.handle(r.Receive),
		PipeDeadline:  newTime(r.PipeDeadline),
		Duplicate:     r.Duplicate,
		QueueCreated:  r.QueueCreated,
		Consumers:     r.Consumers,
	}
}

func (f *frame) batch(b *batch) *queuepb.EnqueueBatchResponse {
	out := &queuepb.EnqueueBatchResponse{Results: make([]*queuepb.EnqueueBatchResult, len(b.results))}
	for i := range b.results {
		result := &queuepb.EnqueueBatchResult{}
		if r := &b.results[i]; r.err != nil {
			result.Result = &queuepb.EnqueueBatchResult_Error{Error: toError(r.err)}
		} else {
			result.Result = &queuepb.EnqueueBatchResult_Receipt{Receipt: f.receipt(&r.receipt)}
		}
		out.Results[i] = result
	}
	return out
}

func (f *frame) enqueued(k kind, r *broker.Receipt) *queuepb.Result {
	if k == kindCall {
		return called(&queuepb.CallResponse{Event: &queuepb.CallResponse_Receipt{Receipt: f.receipt(r)}})
	}
	return &queuepb.Result{Response: &queuepb.Result_Enqueue{Enqueue: &queuepb.EnqueueResponse{Receipt: f.receipt(r)}}}
}

func (f *frame) replied(r *broker.ReplyResult) *queuepb.Result {
	result := &queuepb.ReplyResult{}
	setOutcome(result, r)
	return &queuepb.Result{Response: &queuepb.Result_Reply{Reply: &queuepb.ReplyResponse{Result: result}}}
}

func setOutcome(out *queuepb.ReplyResult, r *broker.ReplyResult) {
	out.Outcome = queuepb.ReplyOutcome(r.Outcome)
	out.EndReason = queuepb.EndReason(r.EndReason)
	out.Sequence = r.Sequence
}

// other are the results of the remaining kinds.
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
			SendHandle:    f.handle(body.Send),
			ReceiveHandle: f.handle(body.Receive),
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
	case *batch:
		r.Response = &queuepb.Result_EnqueueBatch{EnqueueBatch: f.batch(body)}
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

// newTime converts a time; nil for none.
func newTime(at broker.Time) *timestamppb.Timestamp {
	if at == 0 {
		return nil
	}
	seconds, nanos := at.Split()
	return &timestamppb.Timestamp{Seconds: seconds, Nanos: int32(nanos)}
}

// isItem reports whether an event takes of a session's byte credit: deliveries and replies do.
func isItem(body any) bool {
	switch body.(type) {
	case *broker.Delivery, *broker.ReplyItem:
		return true
	}
	return false
}
