package client

import (
	"context"
	"fmt"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// SettleLease ends a delivery by its lease alone, which another program of the same principal may hold: that one's
// [Delivery] is lost then. Replies of the settlement must say where they go. See [Delivery.Settle].
func (c *Client) SettleLease(ctx context.Context, lease handles.Handle, s Settlement) (SettleResult, error) {
	u := c.pools.unary(opSettle)
	u.leased = true
	u.operation.body = appendSettle(u.operation.body, fieldOf(opSettle), lease.Text(), &s, s.replyRequests(""))
	var response queuepb.SettleResponse
	if err := u.do(ctx, c.pick(), &response); err != nil {
		return SettleResult{}, fmt.Errorf("settle lease: %w", err)
	}
	return settleResult(&response)
}

// LeaseExtension is what became of one lease of [Client.ExtendLeases].
type LeaseExtension struct {
	// Expires is when the lease ends now, by the server's clock.
	Expires time.Time
	// WaiterGone says that nobody waits for the delivery's answer any more: stop working on it, and settle it.
	WaiterGone bool
	// Err is why the lease could not be extended.
	Err error
}

// ExtendLeases gives deliveries more time by their leases, 1 to 1,000: leaseTime from now on, 0 for that of their
// consumers. There is a result for each, in their order. A [Client.Work] does so by itself.
func (c *Client) ExtendLeases(ctx context.Context, leaseTime time.Duration, leases ...handles.Handle) ([]LeaseExtension, error) {
	request := &queuepb.ExtendLeasesRequest{LeaseTime: wireDuration(leaseTime)}
	for _, lease := range leases {
		request.Leases = append(request.Leases, wireHandle(lease))
	}
	var response queuepb.ExtendLeasesResponse
	if err := c.unary(ctx, c.pick(), opExtend, request, &response); err != nil {
		return nil, fmt.Errorf("extend leases: %w", err)
	}
	results := make([]LeaseExtension, len(response.GetResults()))
	for i, r := range response.GetResults() {
		if r.GetError() != nil {
			results[i].Err = fromWire(r.GetError())
			continue
		}
		results[i] = LeaseExtension{Expires: wireTime(r.GetExpiresAt()), WaiterGone: r.GetWaiterGone()}
	}
	return results, nil
}

// StopConsuming asks the server for no more deliveries to a consumer of the same principal, by its id, wherever that
// runs: it ends when all it has is settled. It returns how much that is. See [Consumer.Stop].
func (c *Client) StopConsuming(ctx context.Context, consumerID string) (inFlight int, err error) {
	var response queuepb.StopConsumingResponse
	request := &queuepb.StopConsumingRequest{ConsumerId: consumerID}
	if err := c.unary(ctx, c.pick(), opStop, request, &response); err != nil {
		return 0, fmt.Errorf("stop consumer %q: %w", consumerID, err)
	}
	return int(response.GetInFlight()), nil
}
