package badinput

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// consumeRows are what is wrong with asking for deliveries.
func consumeRows(f *Fixture) []Row {
	consume := func(name string, change func(*queuepb.ConsumeRequest), want Refusal) Row {
		r := &queuepb.ConsumeRequest{Queues: []string{"q"}}
		change(r)
		return refused("Consume: "+name, r, want)
	}
	return []Row{
		consume("no queue", func(r *queuepb.ConsumeRequest) { r.Queues = nil }, invalid("QUEUES_INVALID", "queues")),
		consume("65 queues", func(r *queuepb.ConsumeRequest) { r.Queues = slices.Repeat([]string{"q"}, 65) }, invalid("QUEUES_INVALID", "queues")),
		consume("lease time of 0", func(r *queuepb.ConsumeRequest) { r.LeaseTime = seconds(0) }, invalid("LEASE_INVALID", "lease_time")),
		consume("lease time below 0", func(r *queuepb.ConsumeRequest) { r.LeaseTime = seconds(-1) }, invalid("LEASE_INVALID", "lease_time")),
		consume("lease time of 12 h and 1 s", func(r *queuepb.ConsumeRequest) { r.LeaseTime = seconds(12*3600 + 1) }, invalid("LEASE_INVALID", "lease_time")),
		consume("10,001 in flight", func(r *queuepb.ConsumeRequest) { r.MaxInFlight = 10_001 }, invalid("CREDIT_INVALID", "max_in_flight")),
		consume("2^32-1 in flight", func(r *queuepb.ConsumeRequest) { r.MaxInFlight = 1<<32 - 1 }, invalid("CREDIT_INVALID", "max_in_flight")),
		consume("consumer id with a blank", func(r *queuepb.ConsumeRequest) { r.ConsumerId = "a b" }, invalid("CONSUMER_ID_INVALID", "consumer_id")),
		consume("consumer id of 65 characters", func(r *queuepb.ConsumeRequest) { r.ConsumerId = strings.Repeat("a", 65) }, invalid("CONSUMER_ID_INVALID", "consumer_id")),
		consume("consumer id of another principal", func(r *queuepb.ConsumeRequest) { r.ConsumerId = takenID }, Refusal{codes.AlreadyExists, "CONSUMER_ID_TAKEN", "consumer_id"}),
		consume("wait below 0", func(r *queuepb.ConsumeRequest) { r.Wait = seconds(-1) }, invalid("DURATION_INVALID", "wait")),
		consume("grace below 0", func(r *queuepb.ConsumeRequest) { r.DisconnectGrace = seconds(-1) }, invalid("DURATION_INVALID", "disconnect_grace")),
		consume("grace of 1 h and 1 s", func(r *queuepb.ConsumeRequest) { r.DisconnectGrace = seconds(3601) }, invalid("DURATION_INVALID", "disconnect_grace")),
		consume("held lease, no token", func(r *queuepb.ConsumeRequest) { r.HeldLeases = []*queuepb.Handle{f.Lease, token("x")} }, invalid("HANDLE_INVALID", "held_leases[1]")),
		consume("held lease, a send handle", func(r *queuepb.ConsumeRequest) { r.HeldLeases = []*queuepb.Handle{f.Pipe.Send} }, invalid("HANDLE_KIND", "held_leases[0]")),
		consume("10,001 held leases", func(r *queuepb.ConsumeRequest) {
			r.HeldLeases = slices.Repeat([]*queuepb.Handle{f.Lease}, 10_001)
		}, invalid("LEASES_INVALID", "held_leases")),
		refused("StopConsuming: no id", &queuepb.StopConsumingRequest{}, invalid("CONSUMER_ID_INVALID", "consumer_id")),
		refused("StopConsuming: unknown", &queuepb.StopConsumingRequest{ConsumerId: "nobody"}, notFound("CONSUMER_UNKNOWN", "consumer_id")),
		refused("StopConsuming: another principal's", &queuepb.StopConsumingRequest{ConsumerId: takenID}, notFound("CONSUMER_UNKNOWN", "consumer_id")),
	}
}

// badLeases are leases that are none, or none any more, and what whoever uses one is told.
func badLeases(f *Fixture) map[string]struct {
	lease *queuepb.Handle
	want  Refusal
} {
	unknown := notFound("LEASE_UNKNOWN", "lease")
	return map[string]struct {
		lease *queuepb.Handle
		want  Refusal
	}{
		"none":              {nil, invalid("HANDLE_INVALID", "lease")},
		"no token":          {token("x"), invalid("HANDLE_INVALID", "lease")},
		"a send handle":     {f.Pipe.Send, invalid("HANDLE_KIND", "lease")},
		"damaged":           {flipped(f.Lease), unknown},
		"unknown":           {f.unknown(handles.Lease), unknown},
		"another tenant's":  {f.foreign(handles.Lease), unknown},
		"no such shard":     {f.noShard(handles.Lease), unknown},
		"another attempt's": {f.Stale, failed("LEASE_STALE", "lease")},
		"of a principal":    {f.NotYours, Refusal{codes.PermissionDenied, "LEASE_NOT_YOURS", "lease"}},
	}
}

// leaseRows use bad leases for everything that takes one.
func leaseRows(f *Fixture) []Row {
	var rows []Row
	for name, bad := range badLeases(f) {
		for action, label := range queuepb.SettleAction_name {
			label = strings.ToLower(strings.TrimPrefix(label, "SETTLE_ACTION_"))
			if name == "another attempt's" && label == "release" {
				continue // how it was settled: see outcomeRows
			}
			rows = append(rows, refused(label+" with a lease: "+name, &queuepb.SettleRequest{
				Lease: bad.lease, Action: queuepb.SettleAction(action),
			}, bad.want))
		}
		if name == "none" {
			continue // a reply needs none
		}
		rows = append(rows,
			refused("Reply with a lease: "+name, &queuepb.ReplyRequest{
				Handle: f.Pipe.Send, Lease: bad.lease, Body: &queuepb.ReplyRequest_Payload{}, More: true,
			}, bad.want),
			refused("Reply and ack with a lease: "+name, &queuepb.ReplyRequest{
				Handle: f.Pipe.Send, Lease: bad.lease, Ack: true, Body: &queuepb.ReplyRequest_Payload{}, More: true,
			}, bad.want),
			answered("ExtendLeases with one: "+name, &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{bad.lease}},
				&queuepb.ExtendLeasesResponse{Results: []*queuepb.ExtendLeaseResult{{Error: errorOf(bad.want, "leases[0]")}}}),
		)
	}
	return append(rows,
		refused("ExtendLeases: none", &queuepb.ExtendLeasesRequest{}, invalid("LEASES_INVALID", "leases")),
		refused("ExtendLeases: 1,001", &queuepb.ExtendLeasesRequest{Leases: slices.Repeat([]*queuepb.Handle{f.Lease}, 1001)}, invalid("LEASES_INVALID", "leases")),
		refused("ExtendLeases: by 0", &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{f.Lease}, LeaseTime: seconds(0)}, invalid("LEASE_INVALID", "lease_time")),
		refused("ExtendLeases: by less than 0", &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{f.Lease}, LeaseTime: seconds(-1)}, invalid("LEASE_INVALID", "lease_time")),
		refused("ExtendLeases: by 12 h and 1 s", &queuepb.ExtendLeasesRequest{Leases: []*queuepb.Handle{f.Lease}, LeaseTime: seconds(12*3600 + 1)}, invalid("LEASE_INVALID", "lease_time")),
	)
}

// errorOf is a refusal as data.
func errorOf(r Refusal, field string) *queuepb.Error {
	return &queuepb.Error{
		Code: int32(r.Code), Reason: r.Reason, Field: field, Outcome: queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED,
	}
}
