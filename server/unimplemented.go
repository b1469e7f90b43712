package server

import (
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

// WatchQueues implements the RPC.
func (unimplementedAdmin) WatchQueues(
	*queuepb.WatchQueuesRequest, grpc.ServerStreamingServer[queuepb.WatchQueuesResponse],
) error {
	return notImplemented("")
}
