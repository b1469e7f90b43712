package server

import (
	"context"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// Describe implements the RPC.
func (s *service) Describe(ctx context.Context, req *queuepb.DescribeRequest) (*queuepb.DescribeResponse, error) {
	res, err := s.unary(ctx, &queuepb.Operation_Describe{Describe: req})
	return res.GetDescribe(), err
}

func (c *caller) describe(req *queuepb.DescribeRequest) (operation, *broker.Error) {
	op := operation{kind: kindDescribe}
	var (
		h   handles.Handle
		err *broker.Error
	)
	parsed, _ := handles.Parse(req.Handle.GetToken()) // what is no handle is refused below
	if parsed.Kind() == handles.Lease {
		h, err = c.lease(req.Handle, "handle")
	} else {
		h, err = c.pipeHandle(req.Handle, 0, "handle")
	}
	if err != nil {
		return op, err
	}
	op.request = &broker.Describe{Handle: h}
	return op, nil
}
