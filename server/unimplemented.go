package server

import (
	"context"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// What the contract has and this server does not yet: the whole list, so that it is easy to see and to shorten. Fields
// that ask for the default pass.

func notImplemented(field string) *broker.Error {
	what := "this RPC"
	if field != "" {
		what = "this field"
	}
	return refuse(broker.ReasonNotImplemented, field, "this server does not have "+what+" yet: do without it")
}

// unimplementedAdmin are the RPCs of the AdminService that are still to come. Unlike the generated stand-ins they
// answer with a reason.
type unimplementedAdmin struct {
	queuepb.UnsafeAdminServiceServer
}

// ListMessages implements the RPC.
func (unimplementedAdmin) ListMessages(
	context.Context, *queuepb.ListMessagesRequest,
) (*queuepb.ListMessagesResponse, error) {
	return nil, notImplemented("")
}

// DeleteMessages implements the RPC.
func (unimplementedAdmin) DeleteMessages(
	context.Context, *queuepb.DeleteMessagesRequest,
) (*queuepb.DeleteMessagesResponse, error) {
	return nil, notImplemented("")
}

// RedriveMessages implements the RPC.
func (unimplementedAdmin) RedriveMessages(
	context.Context, *queuepb.RedriveMessagesRequest,
) (*queuepb.RedriveMessagesResponse, error) {
	return nil, notImplemented("")
}

// EndPipe implements the RPC.
func (unimplementedAdmin) EndPipe(context.Context, *queuepb.EndPipeRequest) (*queuepb.EndPipeResponse, error) {
	return nil, notImplemented("")
}

// WatchQueues implements the RPC.
func (unimplementedAdmin) WatchQueues(
	*queuepb.WatchQueuesRequest, grpc.ServerStreamingServer[queuepb.WatchQueuesResponse],
) error {
	return notImplemented("")
}
