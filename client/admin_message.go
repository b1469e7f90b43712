package client

import (
	"context"
	"fmt"
	"iter"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// Messages looks at the messages of a queue that are in a state (MESSAGE_STATE_UNSPECIFIED: in any) without touching
// them, with the first payloadBytes of each payload (0: 1,024; at most 65,536). It asks for more as the loop goes on. An
// error is the last item.
func (c *Client) Messages(
	ctx context.Context, queue string, state queuepb.MessageState, payloadBytes uint32,
) iter.Seq2[*queuepb.MessageInfo, error] {
	return func(yield func(*queuepb.MessageInfo, error) bool) {
		request := &queuepb.ListMessagesRequest{Queue: queue, State: state, PayloadBytes: payloadBytes}
		for {
			response, err := plain(ctx, c.admin().ListMessages, request)
			if err != nil {
				yield(nil, fmt.Errorf("messages of queue %q: %w", queue, err))
				return
			}
			for _, m := range response.GetMessages() {
				if !yield(m, nil) {
					return
				}
			}
			if request.PageToken = response.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// DeleteMessages removes messages of a queue by their ids, at most 1,000, and returns how many there were. Who waits for
// their answers gets [ErrPurged].
func (c *Client) DeleteMessages(ctx context.Context, queue string, ids ...string) (uint64, error) {
	response, err := plain(ctx, c.admin().DeleteMessages, &queuepb.DeleteMessagesRequest{Queue: queue, MessageIds: ids})
	if err != nil {
		return 0, fmt.Errorf("delete messages of queue %q: %w", queue, err)
	}
	return response.GetDeletedMessages(), nil
}

// RedriveMessages puts dead messages of a queue back into the queue target (empty: the same), with their failures set to
// 0: those with the ids, at most 1,000, or all. It returns how many.
func (c *Client) RedriveMessages(ctx context.Context, queue, target string, ids ...string) (uint64, error) {
	request := &queuepb.RedriveMessagesRequest{Queue: queue, MessageIds: ids, TargetQueue: target}
	response, err := plain(ctx, c.admin().RedriveMessages, request)
	if err != nil {
		return 0, fmt.Errorf("redrive messages of queue %q: %w", queue, err)
	}
	return response.GetRedrivenMessages(), nil
}

// EndPipe ends a pipe with [ErrRevoked] for all, by either of its handles; why, at most 1 KiB, is told to its readers. It
// reports whether this ended the pipe, and why the pipe ended if it had before.
func (c *Client) EndPipe(ctx context.Context, handle handles.Handle, why string) (ended bool, reason Reason, err error) {
	return c.endPipe(ctx, &queuepb.EndPipeRequest{
		Subject: &queuepb.EndPipeRequest_Handle{Handle: wireHandle(handle)}, Message: why,
	})
}

// EndPipeOf is like [Client.EndPipe], for the pipe that awaits the answer to a message, by the message's id.
func (c *Client) EndPipeOf(ctx context.Context, messageID, why string) (ended bool, reason Reason, err error) {
	return c.endPipe(ctx, &queuepb.EndPipeRequest{
		Subject: &queuepb.EndPipeRequest_MessageId{MessageId: messageID}, Message: why,
	})
}

func (c *Client) endPipe(ctx context.Context, request *queuepb.EndPipeRequest) (bool, Reason, error) {
	response, err := plain(ctx, c.admin().EndPipe, request)
	if err != nil {
		return false, "", fmt.Errorf("end pipe: %w", err)
	}
	return response.GetEnded(), endReason(response.GetReason()), nil
}
