package server

import (
	"context"
	"encoding/base64"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// adminService implements the AdminService.
type adminService struct {
	queuepb.UnsafeAdminServiceServer
	*Server
}

// CreateQueue implements the RPC.
func (s *adminService) CreateQueue(
	ctx context.Context, req *queuepb.CreateQueueRequest,
) (*queuepb.CreateQueueResponse, error) {
	if err := checkQueue(req.Name, "name"); err != nil {
		return nil, err
	}
	config, refused := queueConfig(req.Config)
	if refused != nil {
		return nil, refused
	}
	list, err := s.queues(ctx, &broker.CreateQueue{Queue: strings.Clone(req.Name), Config: config})
	if err != nil {
		return nil, err
	}
	return &queuepb.CreateQueueResponse{Queue: firstQueue(list)}, nil
}

// GetQueue implements the RPC.
func (s *adminService) GetQueue(ctx context.Context, req *queuepb.GetQueueRequest) (*queuepb.GetQueueResponse, error) {
	if err := checkQueue(req.Name, "name"); err != nil {
		return nil, err
	}
	list, err := s.queues(ctx, &broker.ListQueues{Name: strings.Clone(req.Name)})
	if err != nil {
		return nil, err
	}
	return &queuepb.GetQueueResponse{Queue: firstQueue(list)}, nil
}

// UpdateQueue implements the RPC.
func (s *adminService) UpdateQueue(
	ctx context.Context, req *queuepb.UpdateQueueRequest,
) (*queuepb.UpdateQueueResponse, error) {
	if err := checkQueue(req.Name, "name"); err != nil {
		return nil, err
	}
	fields, refused := configFields(req.UpdateMask)
	if refused != nil {
		return nil, refused
	}
	config, refused := queueConfig(req.Config)
	if refused != nil {
		return nil, refused
	}
	list, err := s.queues(ctx, &broker.UpdateQueue{Queue: strings.Clone(req.Name), Config: config, Fields: fields})
	if err != nil {
		return nil, err
	}
	return &queuepb.UpdateQueueResponse{Queue: firstQueue(list)}, nil
}

// DeleteQueue implements the RPC.
func (s *adminService) DeleteQueue(
	ctx context.Context, req *queuepb.DeleteQueueRequest,
) (*queuepb.DeleteQueueResponse, error) {
	if err := checkQueue(req.Name, "name"); err != nil {
		return nil, err
	}
	removed, err := ask[*broker.Removed](ctx, s, &broker.DeleteQueue{Queue: strings.Clone(req.Name), Force: req.Force})
	if err != nil {
		return nil, err
	}
	return &queuepb.DeleteQueueResponse{DeletedMessages: removed.Messages}, nil
}

// PurgeQueue implements the RPC.
func (s *adminService) PurgeQueue(
	ctx context.Context, req *queuepb.PurgeQueueRequest,
) (*queuepb.PurgeQueueResponse, error) {
	if err := checkQueue(req.Name, "name"); err != nil {
		return nil, err
	}
	state, refused := messageState(req.State, "state")
	if refused != nil {
		return nil, refused
	}
	if state == broker.MessageInFlight {
		return nil, refuse(reasonEnumUnknown, "state", "what is in flight is not purged: use READY, DELAYED or DEAD, "+
			"or leave it unset for READY and DELAYED")
	}
	removed, err := ask[*broker.Removed](ctx, s, &broker.PurgeQueue{Queue: strings.Clone(req.Name), State: state})
	if err != nil {
		return nil, err
	}
	return &queuepb.PurgeQueueResponse{PurgedMessages: removed.Messages}, nil
}

// messageState converts a state that selects; unset gives 0.
func messageState(state queuepb.MessageState, field string) (broker.MessageState, *broker.Error) {
	switch state {
	case queuepb.MessageState_MESSAGE_STATE_UNSPECIFIED, queuepb.MessageState_MESSAGE_STATE_READY,
		queuepb.MessageState_MESSAGE_STATE_DELAYED, queuepb.MessageState_MESSAGE_STATE_IN_FLIGHT,
		queuepb.MessageState_MESSAGE_STATE_DEAD:
		return broker.MessageState(state), nil
	}
	return 0, unknownEnum(field)
}

// ListQueues implements the RPC.
func (s *adminService) ListQueues(
	ctx context.Context, req *queuepb.ListQueuesRequest,
) (*queuepb.ListQueuesResponse, error) {
	if req.PageSize > maxPage {
		return nil, refuse(reasonPageInvalid, "page_size", "use at most 1000")
	}
	after, err := parsePageToken(req.PageToken)
	if err != nil {
		return nil, err
	}
	size := int(req.PageSize)
	if size == 0 {
		size = defaultPage
	}
	list, failed := s.queues(ctx, &broker.ListQueues{Prefix: strings.Clone(req.Prefix), After: after, Limit: size})
	if failed != nil {
		return nil, failed
	}
	out := &queuepb.ListQueuesResponse{}
	for i := range list.Queues {
		out.Queues = append(out.Queues, queueMessage(&list.Queues[i]))
	}
	if n := len(list.Queues); list.More && n > 0 {
		out.NextPageToken = pageToken(list.Queues[n-1].Name)
	}
	return out, nil
}

// queues asks the broker for queues.
func (s *adminService) queues(ctx context.Context, request broker.Request) (*broker.QueueList, error) {
	return ask[*broker.QueueList](ctx, s, request)
}

// ask has the broker carry out a request that it answers with a T.
func ask[T any](ctx context.Context, s *adminService, request broker.Request) (T, error) {
	var none T
	body, err := s.do(ctx, s.caller(ctx), operation{request: request})
	if err != nil {
		return none, err
	}
	answer, ok := body.(T)
	if !ok {
		return none, errInternal() // unreachable: each request has its answer
	}
	return answer, nil
}

func firstQueue(list *broker.QueueList) *queuepb.Queue {
	if len(list.Queues) == 0 {
		return nil // unreachable: the broker answers with the queue or an error
	}
	return queueMessage(&list.Queues[0])
}

func queueMessage(q *broker.QueueInfo) *queuepb.Queue {
	return &queuepb.Queue{
		Name:       q.Name,
		Config:     configMessage(&q.Config),
		CreatedAt:  newTime(q.CreatedAt),
		Statistics: statisticsMessage(q),
	}
}

func statisticsMessage(q *broker.QueueInfo) *queuepb.QueueStatistics {
	return &queuepb.QueueStatistics{
		Queue:          q.Name,
		Ready:          q.Ready,
		InFlight:       q.InFlight,
		Delayed:        q.Delayed,
		Dead:           q.Dead,
		Bytes:          q.Bytes,
		Consumers:      q.Consumers,
		Waiters:        q.Waiters,
		OldestAge:      durationpb.New(q.OldestAge),
		EnqueuedTotal:  q.Enqueued,
		DeliveredTotal: q.Delivered,
		AckedTotal:     q.Acked,
		FailedTotal:    q.Failed,
		EnqueueRate:    q.EnqueueRate,
		AckRate:        q.AckRate,
	}
}

// pageTokenPrefix tells page tokens from other text, and their versions from each other.
const pageTokenPrefix = "q1:"

// pageToken stands for the page behind the queue of this name.
func pageToken(after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(pageTokenPrefix + after))
}

func parsePageToken(token string) (after string, _ *broker.Error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	after, ok := strings.CutPrefix(string(raw), pageTokenPrefix)
	if err != nil || !ok || checkQueue(after, "") != nil {
		return "", errPageToken()
	}
	return after, nil
}

func errPageToken() *broker.Error {
	return refuse(reasonPageInvalid, "page_token",
		"not a page token of this list: use next_page_token of the page before, or leave it unset")
}
