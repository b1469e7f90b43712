package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// Consume implements the RPC.
func (s *service) Consume(
	req *queuepb.ConsumeRequest, stream grpc.ServerStreamingServer[queuepb.ConsumeResponse],
) error {
	c := s.caller(stream.Context())
	op, err := c.consume(req)
	if err != nil {
		return err
	}
	op.credit = 1
	return s.stream(stream.Context(), c, op, func(r *queuepb.Result) error { return stream.Send(r.GetConsume()) })
}

// StopConsuming implements the RPC.
func (s *service) StopConsuming(
	ctx context.Context, req *queuepb.StopConsumingRequest,
) (*queuepb.StopConsumingResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_StopConsuming{StopConsuming: req})
	return res.GetStopConsuming(), err
}

func (c *caller) consume(req *queuepb.ConsumeRequest) (operation, *broker.Error) {
	op := operation{kind: kindConsume}
	if n := len(req.Queues); n == 0 || n > maxQueues {
		return op, refuse(reasonQueuesInvalid, "queues", fmt.Sprintf("%d queues: name 1 to %d", n, maxQueues))
	}
	queues := make([]string, 0, len(req.Queues))
	for i, name := range req.Queues {
		if err := checkQueue(name, ""); err != nil {
			err.Field = fmt.Sprintf("queues[%d]", i)
			return op, err
		}
		if !slices.Contains(queues, name) {
			queues = append(queues, strings.Clone(name))
		}
	}
	if req.MaxInFlight > maxInFlight {
		return op, refuse(reasonCreditInvalid, "max_in_flight", fmt.Sprintf("use at most %d", maxInFlight))
	}
	lease, err := leaseTime(req.LeaseTime, "lease_time")
	if err != nil {
		return op, err
	}
	if err := checkConsumerID(req.ConsumerId, "consumer_id"); err != nil {
		return op, err
	}
	wait, err := duration(req.Wait, "wait")
	if err != nil {
		return op, err
	}
	if req.Wait != nil {
		if wait < 0 {
			return op, refuse(reasonDurationInvalid, "wait", "use 0 or more, or leave it unset to wait for ever")
		}
		wait = explicit(wait)
	}
	grace, err := duration(req.DisconnectGrace, "disconnect_grace")
	if err != nil {
		return op, err
	}
	if grace < 0 || grace > maxDisconnectGrace {
		return op, refuse(reasonDurationInvalid, "disconnect_grace", "use 0 to 1 h, or leave it unset for 0")
	}
	held, err := c.heldLeases(req.HeldLeases)
	if err != nil {
		return op, err
	}
	op.request = &broker.Consume{
		Queues:        queues,
		MaxInFlight:   req.MaxInFlight,
		LeaseTime:     lease,
		ConsumerID:    strings.Clone(req.ConsumerId),
		MaxDeliveries: req.MaxDeliveries,
		Wait:          wait,
		Held:          held,
		Grace:         grace,
	}
	return op, nil
}

// heldLeases checks the leases that a consumer which comes back still has. One that cannot be in force any more is left
// out: the consumer has lost that delivery, and learns so when it settles it.
func (c *caller) heldLeases(all []*queuepb.Handle) ([]handles.Handle, *broker.Error) {
	if len(all) > maxInFlight {
		return nil, refuse(reasonLeasesInvalid, "held_leases", fmt.Sprintf("%d leases: name at most %d", len(all), maxInFlight))
	}
	held := make([]handles.Handle, 0, len(all))
	for i, h := range all {
		lease, err := c.lease(h, fmt.Sprintf("held_leases[%d]", i))
		switch {
		case err == nil:
			held = append(held, lease)
		case err.Reason != broker.ReasonLeaseUnknown:
			return nil, err
		}
	}
	return held, nil
}

func (c *caller) stopConsuming(req *queuepb.StopConsumingRequest) (operation, *broker.Error) {
	op := operation{kind: kindStopConsuming}
	if req.ConsumerId == "" {
		return op, refuse(reasonConsumerIDInvalid, "consumer_id", "name the consumer: its id is in ConsumeStarted")
	}
	if err := checkConsumerID(req.ConsumerId, "consumer_id"); err != nil {
		return op, err
	}
	op.request = &broker.StopConsuming{ConsumerID: strings.Clone(req.ConsumerId)}
	return op, nil
}
