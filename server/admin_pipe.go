package server

import (
	"context"
	"strings"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// EndPipe implements the RPC.
func (s *adminService) EndPipe(ctx context.Context, req *queuepb.EndPipeRequest) (*queuepb.EndPipeResponse, error) {
	end := &broker.EndPipe{Text: strings.Clone(trimText(req.Message, maxReason))}
	switch subject := req.Subject.(type) {
	case *queuepb.EndPipeRequest_Handle:
		h, err := s.caller(ctx).pipeHandle(subject.Handle, 0, "handle")
		if err != nil {
			return nil, err
		}
		end.Handle = h
	case *queuepb.EndPipeRequest_MessageId:
		id, ok := broker.ParseMessageID(subject.MessageId)
		if !ok {
			return nil, refuse(broker.ReasonMessageUnknown, "message_id", notAMessageID(subject.MessageId))
		}
		end.Message = id
	default:
		return nil, refuse(reasonSubjectMissing, "subject", "name a pipe by one of its handles, or by a message's id")
	}
	ended, err := ask[*broker.Cancelled](ctx, s, end)
	if err != nil {
		return nil, err
	}
	return &queuepb.EndPipeResponse{Ended: ended.Now, Reason: queuepb.EndReason(ended.Reason)}, nil
}
