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
	if h.Kind() == handles.Send {
		op.fix = redact
	}
	return op, nil
}

// redact leaves out of a description what the holder of a send handle is not to see: who holds one may answer, and need
// not know what others have answered, nor where else the handle went.
func redact(body any) any {
	d, ok := body.(*broker.Description)
	if !ok {
		return body
	}
	less := *d
	less.FirstSequence, less.NextSequence, less.Readers = 0, 0, 0
	less.Carriers = make([]broker.CarrierDescription, len(d.Carriers))
	for i, carrier := range d.Carriers {
		carrier.Message, carrier.Queue, carrier.Position = broker.MessageID{}, "", 0
		less.Carriers[i] = carrier
	}
	return &less
}
