package badinput

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/handles"
)

// settleRows are what is wrong with what a Settle carries.
func settleRows(f *Fixture) []Row {
	settle := func(name string, change func(*queuepb.SettleRequest), want Refusal) Row {
		r := &queuepb.SettleRequest{Lease: f.Lease}
		change(r)
		return refused("Settle: "+name, r, want)
	}
	message := func(name string, m *queuepb.EnqueueRequest, want Refusal) Row {
		m.Queue = "q"
		return settle(name, func(r *queuepb.SettleRequest) { r.Messages = []*queuepb.EnqueueRequest{m} }, want)
	}
	return []Row{
		settle("delay on an ack", func(r *queuepb.SettleRequest) { r.Delay = seconds(1) }, invalid("DELAY_INVALID", "delay")),
		settle("delay below 0", func(r *queuepb.SettleRequest) {
			r.Action, r.Delay = queuepb.SettleAction_SETTLE_ACTION_RETRY, seconds(-1)
		}, invalid("DELAY_INVALID", "delay")),
		settle("delay of 366 days", func(r *queuepb.SettleRequest) {
			r.Action, r.Delay = queuepb.SettleAction_SETTLE_ACTION_RETRY, seconds(366*86400)
		}, invalid("DELAY_INVALID", "delay")),
		settle("reason of 1 KiB and 1", func(r *queuepb.SettleRequest) { r.Reason = strings.Repeat("r", 1025) }, invalid("SETTLE_TOO_LARGE", "reason")),
		settle("257 replies", func(r *queuepb.SettleRequest) {
			r.Replies = slices.Repeat([]*queuepb.ReplyRequest{{}}, 257)
		}, invalid("SETTLE_TOO_LARGE", "replies")),
		settle("257 messages", func(r *queuepb.SettleRequest) {
			r.Messages = slices.Repeat([]*queuepb.EnqueueRequest{{Queue: "q"}}, 257)
		}, invalid("SETTLE_TOO_LARGE", "messages")),
		settle("bad reply", func(r *queuepb.SettleRequest) {
			r.Replies = []*queuepb.ReplyRequest{
				{Handle: f.Pipe.Send, More: true},
				{Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{}}},
			}
		}, invalid("ERROR_INVALID", "replies[1].error.code")),
		message("damaged reply_to", &queuepb.EnqueueRequest{Message: &queuepb.Message{ReplyTo: flipped(f.Pipe.Send)}}, invalid("HANDLE_INVALID", "messages[0].message.reply_to")),
		message("reply_to of the wrong kind", &queuepb.EnqueueRequest{Message: &queuepb.Message{ReplyTo: f.Pipe.Receive}}, invalid("HANDLE_KIND", "messages[0].message.reply_to")),
		message("message that requires a consumer", &queuepb.EnqueueRequest{RequireConsumer: true}, invalid("REQUIRE_CONSUMER_INVALID", "messages[0].require_consumer")),
		message("message with a pipe", &queuepb.EnqueueRequest{Pipe: &queuepb.PipeOptions{}}, invalid("PIPE_OPTIONS_INVALID", "messages[0].pipe")),
		message("message with a key", &queuepb.EnqueueRequest{IdempotencyKey: "k"}, invalid("IDEMPOTENCY_KEY_INVALID", "messages[0].idempotency_key")),
	}
}

// replyRows are what is wrong with a reply.
func replyRows(f *Fixture) []Row {
	reply := func(name string, change func(*queuepb.ReplyRequest), want Refusal) Row {
		r := &queuepb.ReplyRequest{Handle: f.Pipe.Send, Body: &queuepb.ReplyRequest_Payload{}, More: true}
		change(r)
		return refused("Reply: "+name, r, want)
	}
	failure := func(name string, e *queuepb.Error, field string) Row {
		return reply("error "+name, func(r *queuepb.ReplyRequest) {
			r.Body, r.More = &queuepb.ReplyRequest_Error{Error: e}, false
		}, invalid("ERROR_INVALID", "error."+field))
	}
	return []Row{
		reply("payload of 1 MiB and 1", func(r *queuepb.ReplyRequest) {
			r.Body = &queuepb.ReplyRequest_Payload{Payload: make([]byte, 1<<20+1)}
		}, invalid("PAYLOAD_TOO_LARGE", "payload")),
		reply("header value with LF", func(r *queuepb.ReplyRequest) { r.Headers = headers(1, "a", "\n") }, invalid("HEADER_INVALID", `headers["a"]`)),
		reply("reserved header", func(r *queuepb.ReplyRequest) { r.Headers = headers(1, "grpc-a", "") }, invalid("HEADER_RESERVED", `headers["grpc-a"]`)),
		reply("id of 65 bytes", func(r *queuepb.ReplyRequest) { r.ReplyId = strings.Repeat("i", 65) }, invalid("REPLY_ID_INVALID", "reply_id")),
		reply("ack without a lease", func(r *queuepb.ReplyRequest) { r.Ack = true }, invalid("LEASE_REQUIRED", "lease")),
		reply("error with more", func(r *queuepb.ReplyRequest) {
			r.Body = &queuepb.ReplyRequest_Error{Error: &queuepb.Error{Code: 5}}
		}, invalid("MORE_INVALID", "more")),
		reply("splice with more", func(r *queuepb.ReplyRequest) {
			r.Body = &queuepb.ReplyRequest_Splice{Splice: f.Pipe.Receive}
		}, invalid("MORE_INVALID", "more")),
		reply("handles without a payload", func(r *queuepb.ReplyRequest) {
			r.Body, r.Handles = nil, named(1, "a", f.Pipe.Send, f)
		}, invalid("HANDLES_TOO_MANY", "handles")),
		reply("33 handles", func(r *queuepb.ReplyRequest) { r.Handles = named(33, "a", f.Pipe.Send, f) }, invalid("HANDLES_TOO_MANY", "handles")),
		failure("without a code", &queuepb.Error{}, "code"),
		failure("code 17", &queuepb.Error{Code: 17}, "code"),
		failure("code -1", &queuepb.Error{Code: -1}, "code"),
		failure("reason in lower case", &queuepb.Error{Code: 5, Reason: "not so"}, "reason"),
		failure("reason of 65 characters", &queuepb.Error{Code: 5, Reason: strings.Repeat("R", 65)}, "reason"),
		failure("message of 4 KiB and 1", &queuepb.Error{Code: 5, Message: strings.Repeat("m", 4097)}, "message"),
		failure("with 17 facts", &queuepb.Error{Code: 5, Metadata: headers(17, "a", "")}, "metadata"),
		failure("with facts of 1 KiB and 1", &queuepb.Error{Code: 5, Metadata: headers(1, "a", strings.Repeat("v", 1024))}, "metadata"),
		failure("with 17 details", &queuepb.Error{Code: 5, Details: slices.Repeat([]*anypb.Any{{}}, 17)}, "details"),
		failure("with details of 65 KiB", &queuepb.Error{Code: 5, Details: []*anypb.Any{{Value: make([]byte, 65<<10)}}}, "details"),
	}
}

// outcomeRows are requests that come too late or go nowhere, and are no errors all the same.
func outcomeRows(f *Fixture) []Row {
	reply := func(name string, h *queuepb.Handle, want *queuepb.ReplyResult) Row {
		return answered("Reply, outcome: "+name, &queuepb.ReplyRequest{Handle: h, Body: &queuepb.ReplyRequest_Payload{}},
			&queuepb.ReplyResponse{Result: want})
	}
	unknown := &queuepb.ReplyResult{Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_UNKNOWN}
	ended := func(reason queuepb.EndReason) *queuepb.ReplyResult {
		return &queuepb.ReplyResult{Outcome: queuepb.ReplyOutcome_REPLY_OUTCOME_ENDED, EndReason: reason}
	}
	return []Row{
		reply("another tenant's handle", f.foreign(handles.Send), unknown),
		reply("unknown handle", f.unknown(handles.Send), unknown),
		reply("reused slot", f.reused(handles.Send), unknown),
		reply("no such shard", f.noShard(handles.Send), unknown),
		reply("expired handle", f.expired(handles.Send), ended(queuepb.EndReason_END_REASON_EXPIRED)),
		reply("after the end", f.Ended.Send, ended(queuepb.EndReason_END_REASON_OK)),
		answered("cancel after the end", &queuepb.CancelRequest{Handle: f.Ended.Receive},
			&queuepb.CancelResponse{Reason: queuepb.EndReason_END_REASON_OK}),
		answered("ack again", &queuepb.SettleRequest{Lease: f.Settled}, &queuepb.SettleResponse{Already: true}),
		answered("release again", &queuepb.SettleRequest{
			Lease: f.Stale, Action: queuepb.SettleAction_SETTLE_ACTION_RELEASE,
		}, &queuepb.SettleResponse{Already: true}),
	}
}
