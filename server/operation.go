package server

import (
	"context"
	"slices"
	"time"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// A caller checks and converts the requests of one client. It belongs to one goroutine.
type caller struct {
	srv    *Server
	tenure *tenure
	id     broker.Identity
	// now is when the requests at hand came in.
	now time.Time
	// queue is the name that was checked last.
	queue string
	// forging says that the principal has sent too many handles with a wrong signature.
	forging bool
	// made keeps requests to be used again; nil where there is only one.
	made *madeRequests
	// sent and leased are the send handle and the lease that were found good last, as long as now stays the same.
	sent, leased knownHandle
	// content, if not nil, is that of the request's message or reply as it came. It may be kept, if it is what would be stored.
	content []byte
}

// A knownHandle is a handle that was checked, with its text. A stream of replies has the same two in each of them: asking
// the key ring only once in a frame saves a fifth of what the server does for it.
type knownHandle struct {
	token  string // a part of the frame's bytes
	handle handles.Handle
}

// at begins with requests that came in at another time.
func (c *caller) at(now time.Time) {
	c.now, c.sent, c.leased = now, knownHandle{}, knownHandle{}
}

// madeRequests are the frequent requests that a session makes for the broker, which gives them back when Submit returns.
type madeRequests struct {
	enqueues made[madeEnqueue]
	replies  made[broker.Reply]
	settles  made[broker.Settle]
}

type madeEnqueue struct {
	broker.Enqueue
	pipe broker.PipeOptions
}

// reset takes all requests back.
func (m *madeRequests) reset() {
	m.enqueues.reset()
	m.replies.reset()
	m.settles.reset()
}

// made are requests of one kind, of which the first are in use.
type made[T any] struct {
	all  []*T
	used int
}

// madeMost is how many requests of a kind a session keeps.
const madeMost = fullFrame

func (m *made[T]) next() *T {
	if m.used == len(m.all) {
		m.all = append(m.all, new(T))
	}
	m.used++
	return m.all[m.used-1]
}

func (m *made[T]) reset() {
	var zero T
	for _, r := range m.all[:m.used] {
		*r = zero
	}
	m.used = 0
	if len(m.all) > madeMost {
		m.all = slices.Clip(m.all[:madeMost])
	}
}

// newEnqueue returns an empty request with room for its pipe's options.
func (c *caller) newEnqueue() *madeEnqueue {
	if c.made == nil {
		return &madeEnqueue{}
	}
	return c.made.enqueues.next()
}

func (c *caller) newReply() *broker.Reply {
	if c.made == nil {
		return &broker.Reply{}
	}
	return c.made.replies.next()
}

func (c *caller) newSettle() *broker.Settle {
	if c.made == nil {
		return &broker.Settle{}
	}
	return c.made.settles.next()
}

// caller is who sent a plain RPC.
func (s *Server) caller(ctx context.Context) *caller {
	t := s.tenureOf(ctx)
	return &caller{srv: s, tenure: t, id: identityOf(ctx), now: t.now()}
}

// kind is which RPC an operation stands for. The numbers are those of the fields of Operation and Result.
type kind uint8

const (
	kindNone           kind = 0
	kindEnqueue        kind = 2
	kindCall           kind = 3
	kindConsume        kind = 4
	kindReply          kind = 5
	kindSettle         kind = 6
	kindExtendLeases   kind = 7
	kindStopConsuming  kind = 8
	kindOpenPipe       kind = 9
	kindReceive        kind = 10
	kindCancel         kind = 11
	kindDescribe       kind = 12
	kindGetServerInfo  kind = 13
	kindEnqueueBatch   kind = 14
	kindCreateQueue    kind = 15 // not in sessions: admin RPCs go the same way
	kindGetOrListQueue kind = 16
)

// streams reports whether an operation goes on after its first event.
func (k kind) streams() bool { return k == kindCall || k == kindConsume || k == kindReceive }

// An operation is a checked request on its way to the broker.
type operation struct {
	kind kind
	// request is for the broker; nil if answer says all there is to say.
	request broker.Request
	answer  any
	// fix, if not nil, completes what the broker answers with what only the server knows.
	fix func(body any) any
	// credit and timeout are those of the broker's Op.
	credit  uint32
	timeout time.Duration
}

// operation checks and converts one request, the same way for both faces. The oneof's wrapper is what both have.
func (c *caller) operation(request any) (operation, *broker.Error) {
	switch r := request.(type) {
	case *queuepb.Operation_Enqueue:
		enqueue, err := c.enqueueWithPipe(r.Enqueue)
		return brokerOp(kindEnqueue, enqueue, err)
	case *queuepb.Operation_Call:
		enqueue, err := c.call(r.Call, 0)
		return brokerOp(kindCall, enqueue, err)
	case *queuepb.Operation_Reply:
		return c.replyOperation(r.Reply)
	case *queuepb.Operation_Settle:
		return c.settle(r.Settle)
	case *queuepb.Operation_Consume:
		return c.consume(r.Consume)
	case *queuepb.Operation_Receive:
		return c.receive(r.Receive)
	case *queuepb.Operation_ExtendLeases:
		return c.extendLeases(r.ExtendLeases)
	case *queuepb.Operation_StopConsuming:
		return c.stopConsuming(r.StopConsuming)
	case *queuepb.Operation_OpenPipe:
		return c.openPipe(r.OpenPipe)
	case *queuepb.Operation_Cancel:
		return c.cancel(r.Cancel)
	case *queuepb.Operation_Describe:
		return c.describe(r.Describe)
	case *queuepb.Operation_GetServerInfo:
		return operation{kind: kindGetServerInfo, answer: c.info()}, nil
	}
	return operation{}, refuse(reasonOpMissing, "request",
		"the operation has no request that this server knows: set one, or use a newer server")
}

// brokerOp makes an operation of a converted request.
func brokerOp(k kind, r *broker.Enqueue, err *broker.Error) (operation, *broker.Error) {
	if err != nil {
		return operation{kind: k}, err
	}
	return operation{kind: k, request: r}, nil
}

// unary carries out one plain RPC that has one answer.
func (s *service) unary(ctx context.Context, request any) (*queuepb.Result, error) {
	c := s.caller(ctx)
	op, refused := c.operation(request)
	if refused != nil {
		return nil, refused
	}
	body, err := s.do(ctx, c, op)
	if err != nil {
		return nil, err
	}
	f := frame{keys: s.keys}
	return f.result(op.kind, 1, true, body), nil
}

// do hands an operation to the broker and awaits its one answer.
func (s *Server) do(ctx context.Context, c *caller, op operation) (any, error) {
	if op.answer != nil {
		return op.answer, nil
	}
	bs := c.tenure.broker.Attach(c.id, broker.SessionOptions{})
	defer bs.Close()
	bs.Submit([]broker.Op{{ID: 1, Request: op.request, Timeout: op.timeout}})
	var buf [1]broker.Event
	for {
		over := c.isOver(bs) // before the events, which may be there by now
		for _, event := range bs.Take(buf[:0]) {
			body := event.Body
			if op.fix != nil {
				body = op.fix(body)
			}
			if refused, ok := body.(*broker.Error); ok {
				return nil, refused
			}
			return body, nil
		}
		if over != nil {
			return nil, over
		}
		if err := c.wait(ctx, bs); err != nil {
			return nil, err
		}
	}
}

// wait waits until a broker session has events, or is over.
func (c *caller) wait(ctx context.Context, bs *broker.Session) error {
	select {
	case <-bs.Ready():
		return nil
	case <-c.tenure.stopping:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isOver says why nothing more will come for a plain call than what is there; nil if something may.
func (c *caller) isOver(bs *broker.Session) error {
	if cut := bs.CutOff(); cut != nil {
		return cut
	}
	select {
	case <-c.tenure.stopping: // the broker has answered all that it has accepted
		e := c.srv.over()
		e.OutcomeUnknown = true
		return e
	default:
		return nil
	}
}
