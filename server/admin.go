package server

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// adminService implements the AdminService, as far as it goes: see unimplemented.go.
type adminService struct {
	unimplementedAdmin
	*Server
}

// CreateQueue implements the RPC.
func (s *adminService) CreateQueue(
	ctx context.Context, req *queuepb.CreateQueueRequest,
) (*queuepb.CreateQueueResponse, error) {
	if err := checkQueue(req.Name, "name"); err != nil {
		return nil, err
	}
	if err := createQueueImplemented(req); err != nil {
		return nil, err
	}
	list, err := s.queues(ctx, &broker.CreateQueue{Queue: strings.Clone(req.Name)})
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
	body, err := s.do(ctx, s.caller(ctx), operation{request: request})
	if err != nil {
		return nil, err
	}
	list, ok := body.(*broker.QueueList)
	if !ok {
		return nil, errInternal() // unreachable: the broker answers these two so
	}
	return list, nil
}

func firstQueue(list *broker.QueueList) *queuepb.Queue {
	if len(list.Queues) == 0 {
		return nil // unreachable: the broker answers with the queue or an error
	}
	return queueMessage(&list.Queues[0])
}

func queueMessage(q *broker.QueueInfo) *queuepb.Queue {
	return &queuepb.Queue{
		Name:      q.Name,
		Config:    defaultQueueConfig(),
		CreatedAt: newTime(q.CreatedAt),
		Statistics: &queuepb.QueueStatistics{
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
		},
	}
}

// defaultQueueConfig is how every queue behaves as yet.
func defaultQueueConfig() *queuepb.QueueConfig {
	return &queuepb.QueueConfig{
		Overflow:    queuepb.Overflow_OVERFLOW_REFUSE,
		LeaseTime:   durationpb.New(30 * time.Second),
		MaxFailures: 20,
		MaxBackoff:  durationpb.New(10 * time.Minute),
		MaxDead:     1000,
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
		return "", refuse(reasonPageInvalid, "page_token",
			"not a page token of this server: use next_page_token of the page before, or leave it unset")
	}
	return after, nil
}
