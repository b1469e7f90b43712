package server

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// Reply implements the RPC. A full pipe holds it until its deadline, and 10 s at most.
func (s *service) Reply(ctx context.Context, req *queuepb.ReplyRequest) (*queuepb.ReplyResponse, error) {
	c := s.caller(ctx)
	op, refused := c.replyOperation(req)
	if refused != nil {
		return nil, refused
	}
	op.timeout = maxReplyWait
	if left := rpcTimeout(ctx, c.now, maxReplyWait); left > 0 {
		// A little less, so that PIPE_FULL comes before DEADLINE_EXCEEDED, which says nothing.
		op.timeout = left - min(left/10, 100*time.Millisecond)
	}
	body, err := s.do(ctx, c, op)
	if err != nil {
		return nil, err
	}
	f := frame{keys: s.keys}
	return f.result(kindReply, 1, true, body).GetReply(), nil
}

// replyOperation is a whole ReplyRequest. Where its pipe cannot be there any more, the reply is dropped and the outcome
// says so; the ack is carried out all the same, by itself.
func (c *caller) replyOperation(req *queuepb.ReplyRequest) (operation, *broker.Error) {
	op := operation{kind: kindReply}
	reply, gone, err := c.reply(req, false)
	if err != nil {
		return op, err
	}
	if req.Ack && req.Lease == nil {
		return op, refuse(reasonLeaseRequired, "lease", "ack settles a lease: name the one that came with the delivery")
	}
	if req.Lease != nil {
		if reply.Lease, err = c.lease(req.Lease, "lease"); err != nil {
			return op, err
		}
		reply.Ack = req.Ack
	}
	switch {
	case gone == nil:
		op.request = reply
	case reply.Ack:
		op.request = &broker.Settle{Lease: reply.Lease, Action: broker.Ack}
		op.fix = func(body any) any {
			if _, ok := body.(*broker.Settled); ok {
				return gone
			}
			return body
		}
	default:
		op.answer = gone
	}
	return op, nil
}

// reply checks and converts all of a reply but its lease. gone, if not nil, is the outcome of a reply whose pipe cannot
// be there any more. lenient is for a Settle, see namedHandles.
func (c *caller) reply(req *queuepb.ReplyRequest, lenient bool) (
	out *broker.Reply, gone *broker.ReplyResult, refused *broker.Error,
) {
	h, refused, lost := c.handle(req.Handle, handles.Send, "handle")
	if refused != nil {
		return nil, nil, refused
	}
	out = c.newReply()
	out.Handle, out.More = h, req.More
	if req.ReplyId != "" {
		if refused = checkText(req.ReplyId, maxReplyID, reasonReplyIDInvalid, "reply_id"); refused != nil {
			return nil, nil, refused
		}
		out.ID = strings.Clone(req.ReplyId)
	}
	switch body := req.Body.(type) {
	case *queuepb.ReplyRequest_Payload:
		refused = c.replyPayload(out, req, body.Payload, lenient)
	case *queuepb.ReplyRequest_Error:
		refused = c.replyError(out, req, body.Error)
	case *queuepb.ReplyRequest_Splice:
		refused = c.replySplice(out, req, body.Splice, lenient)
	default:
		refused = replyWithout(req, "an end without a reply")
	}
	if refused != nil {
		return nil, nil, refused
	}
	if lost != nil {
		result := goneResult(lost)
		gone = &result
	}
	return out, gone, nil
}

func (c *caller) replyPayload(
	out *broker.Reply, req *queuepb.ReplyRequest, payload []byte, lenient bool,
) *broker.Error {
	out.Kind = broker.ReplyPayload
	if err := c.srv.limits.checkPayload(payload, "payload"); err != nil {
		return err
	}
	if err := checkHeaders(req.ContentType, req.Headers, "content_type", "headers"); err != nil {
		return err
	}
	stored := queuepb.Reply{Payload: payload, ContentType: req.ContentType, Headers: req.Headers}
	if len(req.Handles) > 0 {
		named, err := c.namedHandles(req.Handles, "handles", lenient)
		if err != nil {
			return err
		}
		out.Cargo.Handles = named
		stored.Handles = plainHandles(req.Handles)
	}
	out.Cargo.Found = c.foundInHeaders(c.found(nil, payload), req.Headers)
	if len(stored.Headers) == 0 && len(stored.Handles) == 0 {
		out.Body = c.contentBody(2, 3, payload, req.ContentType)
		return nil
	}
	body, err := stored.MarshalVT()
	if err != nil {
		return errInternal() // unreachable: the generated code returns none for plain messages
	}
	out.Body = body
	return nil
}

// replyWithout refuses what only a payload can bring along.
func replyWithout(req *queuepb.ReplyRequest, what string) *broker.Error {
	switch {
	case len(req.Handles) > 0:
		return refuse(reasonHandlesTooMany, "handles", what+" carries no handles: set payload, it may be empty")
	case len(req.Headers) > 0:
		return refuse(reasonHeaderInvalid, "headers", what+" has no headers: set payload, it may be empty")
	case req.ContentType != "":
		return refuse(reasonHeaderInvalid, "content_type", what+" has no content type: set payload, it may be empty")
	}
	return nil
}

func (c *caller) replyError(out *broker.Reply, req *queuepb.ReplyRequest, e *queuepb.Error) *broker.Error {
	out.Kind = broker.ReplyError
	if err := replyWithout(req, "an error"); err != nil {
		return err
	}
	if req.More {
		return refuse(reasonMoreInvalid, "more", "an error ends the pipe: leave more unset")
	}
	if err := checkReplierError(e); err != nil {
		return under("error", err)
	}
	// The rest of the fields are the server's to set.
	stored := queuepb.Error{
		Code: e.Code, Reason: e.Reason, Message: e.Message, Metadata: e.Metadata, Details: e.Details,
	}
	body, err := stored.MarshalVT()
	if err != nil {
		return errInternal() // unreachable: the generated code returns none for plain messages
	}
	out.Body = body
	out.Cargo.Found = c.found(nil, body)
	return nil
}

func checkReplierError(e *queuepb.Error) *broker.Error {
	if e.GetCode() < 1 || e.GetCode() > int32(codes.Unauthenticated) {
		return refuse(reasonErrorInvalid, "code", "set a gRPC code from 1 to 16")
	}
	if len(e.Reason) > maxErrorReason || !reasonChars.all(e.Reason) {
		return refuse(reasonErrorInvalid, "reason", "use at most 64 characters of UPPER_SNAKE_CASE")
	}
	if err := checkText(e.Message, maxErrorMessage, reasonErrorInvalid, "message"); err != nil {
		return err
	}
	if len(e.Metadata) > maxErrorMetadata {
		return refuse(reasonErrorInvalid, "metadata", "send at most 16 pairs")
	}
	size := 0
	for k, v := range e.Metadata {
		size += len(k) + len(v)
		if !printable(k) || !printable(v) {
			return refuse(reasonErrorInvalid, "metadata", "use valid UTF-8 without control characters")
		}
	}
	if size > maxErrorMetadataSize {
		return refuse(reasonErrorInvalid, "metadata", "send at most 1 KiB")
	}
	if len(e.Details) > maxErrorDetails {
		return refuse(reasonErrorInvalid, "details", "send at most 16")
	}
	size = 0
	for _, d := range e.Details {
		size += len(d.GetTypeUrl()) + len(d.GetValue())
		if !printable(d.GetTypeUrl()) {
			return refuse(reasonErrorInvalid, "details", "use valid UTF-8 in type_url")
		}
	}
	if size > maxErrorDetailsSize {
		return refuse(reasonErrorInvalid, "details", "send at most 64 KiB")
	}
	return nil
}

// replySplice converts a splice. In a Settle one onto a pipe that cannot be there any more must not refuse the rest:
// the waiter gets what it would have got from that pipe, an error.
func (c *caller) replySplice(
	out *broker.Reply, req *queuepb.ReplyRequest, splice *queuepb.Handle, lenient bool,
) *broker.Error {
	out.Kind = broker.ReplySplice
	if err := replyWithout(req, "a splice"); err != nil {
		return err
	}
	if req.More {
		return refuse(reasonMoreInvalid, "more", "a splice is the last that this replier says: leave more unset")
	}
	h, err, gone := c.handle(splice, handles.Receive, "splice")
	switch {
	case err != nil:
		return err
	case gone != nil && !lenient:
		return handleError(gone, "splice")
	case gone == nil:
		out.Splice = h
		gone = handles.ErrUnknown // as it may turn out
	default:
		out.Kind = broker.ReplyError
	}
	if !lenient {
		return nil
	}
	why := handleError(gone, "splice")
	failed := queuepb.Error{
		Code: int32(why.Code), Reason: string(why.Reason),
		Message: "the pipe that this one was to go on with is gone",
	}
	body, marshalErr := failed.MarshalVT()
	if marshalErr != nil {
		return errInternal() // unreachable: as above
	}
	out.Body = body
	return nil
}
