package integration_test

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/replyq/replyq/api/queuepb"
)

// An ending is one way in which the pipe of a call can end, and what is seen of it.
type ending struct {
	reason  string
	code    codes.Code
	name    string // of the code
	own     string // the reason of the replier, if it was one who ended it
	replies []string
	config  *queuepb.QueueConfig // of the queue; nil: as it is by itself
	call    *queuepb.CallRequest // besides its queue
	cause   func(e *ender, receipt event)
}

// endings are all ways in which the pipe of a call can end while its caller waits, in the order in which they are brought
// about; the stop of the server comes last.
func endings() []ending {
	aborted := func(reason string, cause func(*ender, event)) ending {
		return ending{reason: reason, code: codes.Aborted, name: "ABORTED", cause: cause}
	}
	failed := func(reason string, config *queuepb.QueueConfig, cause func(*ender, event)) ending {
		return ending{reason: reason, code: codes.FailedPrecondition, name: "FAILED_PRECONDITION", config: config, cause: cause}
	}
	expired := func(call *queuepb.CallRequest) ending {
		return ending{reason: "EXPIRED", code: codes.DeadlineExceeded, name: "DEADLINE_EXCEEDED", call: call}
	}
	dropped := aborted("DROPPED", func(e *ender, _ event) { e.enqueue() })
	dropped.config = &queuepb.QueueConfig{MaxLength: 1, Overflow: queuepb.Overflow_OVERFLOW_DROP_OLDEST}
	return []ending{
		expired(&queuepb.CallRequest{Pipe: &queuepb.PipeOptions{Timeout: durationpb.New(time.Second)}}),
		expired(&queuepb.CallRequest{Expiry: durationpb.New(time.Second)}),
		{reason: "OK", name: "OK", replies: []string{"one", "two"}, cause: func(e *ender, _ event) {
			d := e.take()
			e.reply(d, &queuepb.ReplyRequest{Body: payload("one"), More: true})
			e.reply(d, &queuepb.ReplyRequest{Body: payload("two")})
		}},
		{reason: "OK", name: "OK", replies: []string{"one"}, cause: func(e *ender, _ event) {
			d := e.take()
			e.reply(d, &queuepb.ReplyRequest{Body: payload("one"), More: true})
			e.settle(d, queuepb.SettleAction_SETTLE_ACTION_ACK)
		}},
		{
			reason: "FAILED", code: codes.NotFound, name: "NOT_FOUND", own: "NO_SUCH_ROW", replies: []string{"half"},
			cause: func(e *ender, _ event) {
				d := e.take()
				e.reply(d, &queuepb.ReplyRequest{Body: payload("half"), More: true})
				e.reply(d, &queuepb.ReplyRequest{Body: &queuepb.ReplyRequest_Error{Error: &queuepb.Error{
					Code: int32(codes.NotFound), Reason: "NO_SUCH_ROW", Message: "no row 7",
				}}})
			},
		},
		{reason: "CANCELLED", code: codes.Canceled, name: "CANCELLED", cause: func(e *ender, receipt event) {
			_, err := e.stub.Cancel(e.ctx, &queuepb.CancelRequest{Handle: &queuepb.Handle{Token: receipt.ReceiveHandle}})
			e.check("Cancel", err)
		}},
		{
			reason: "NO_CONSUMER", code: codes.Unavailable, name: "UNAVAILABLE",
			call:  &queuepb.CallRequest{RequireConsumer: true, Delay: durationpb.New(time.Minute)},
			cause: func(e *ender, _ event) { e.leave() },
		},
		failed("REJECTED", nil, func(e *ender, _ event) { e.settle(e.take(), queuepb.SettleAction_SETTLE_ACTION_REJECT) }),
		failed("DEAD_LETTERED", &queuepb.QueueConfig{MaxFailures: 1}, func(e *ender, _ event) {
			e.settle(e.take(), queuepb.SettleAction_SETTLE_ACTION_RETRY)
		}),
		failed("REVOKED", nil, func(e *ender, receipt event) {
			_, err := e.admin.EndPipe(e.ctx, &queuepb.EndPipeRequest{
				Subject: &queuepb.EndPipeRequest_MessageId{MessageId: receipt.MessageID}})
			e.check("EndPipe", err)
		}),
		aborted("BROKEN", func(e *ender, _ event) { e.settle(e.take(), queuepb.SettleAction_SETTLE_ACTION_ACK) }),
		aborted("PURGED", func(e *ender, _ event) {
			_, err := e.admin.PurgeQueue(e.ctx, &queuepb.PurgeQueueRequest{Name: e.queue})
			e.check("PurgeQueue", err)
		}),
		aborted("PURGED", func(e *ender, receipt event) {
			_, err := e.admin.DeleteMessages(e.ctx, &queuepb.DeleteMessagesRequest{
				Queue: e.queue, MessageIds: []string{receipt.MessageID}})
			e.check("DeleteMessages", err)
		}),
		aborted("QUEUE_DELETED", func(e *ender, _ event) {
			_, err := e.admin.DeleteQueue(e.ctx, &queuepb.DeleteQueueRequest{Name: e.queue, Force: true})
			e.check("DeleteQueue", err)
		}),
		dropped,
		{reason: "SHUTTING_DOWN", code: codes.Unavailable, name: "UNAVAILABLE", cause: func(e *ender, _ event) {
			e.server.signal(e.t, syscall.SIGTERM)
		}},
	}
}

// wants are the events that a caller of a kind prints of its call number n.
func (e ending) wants(caller string, n int) []event {
	var all []event
	for i, text := range e.replies {
		all = append(all, event{Event: "reply", Number: n, Sequence: uint64(i + 1), Payload: text, Attempt: 1})
	}
	end := event{Event: "end", Number: n, Reason: e.reason, Sequence: uint64(len(e.replies))}
	status := event{Event: "status", Number: n, Code: e.name}
	if e.code != codes.OK {
		status.Reason = cmp.Or(e.own, e.reason)
		end.Error = &eventError{Code: int32(e.code), Reason: status.Reason}
		status.Rich = &eventStatus{Code: int32(e.code), Reason: status.Reason, Domain: "replyq"}
	}
	switch caller {
	case pythonInSession:
		return append(all, end, event{Event: "done", Number: n})
	case goClient:
		status.Rich = nil // it shows an error of its own
	}
	return append(all, end, status)
}

// The kinds of waiters: in Python by plain RPCs and in a session, and package client.
const (
	pythonPlain     = "python plain"
	pythonInSession = "python session"
	goClient        = "go client"
)

// eachCaller runs a test with each kind of waiter. play starts one.
func eachCaller(t *testing.T, test func(t *testing.T, caller string, play func(s *server, requests ...string) *process)) {
	for caller, args := range map[string][]string{
		pythonPlain: {"--face", "plain"}, pythonInSession: {"--face", "session"}, goClient: nil,
	} {
		l := inPython
		if caller == goClient {
			l = inGo
		}
		if l != inGo && skipPolyglot() {
			continue
		}
		t.Run(caller, func(t *testing.T) {
			t.Parallel()
			test(t, caller, func(s *server, requests ...string) *process {
				return s.play(t, l, "caller", append(slices.Clone(args), requests...)...)
			})
		})
	}
}

// TestPromise1EndsOfCalls: a program makes a call for each way in which a pipe can end, all at once, and sees the end of
// each: reason, error and replies, and on a plain stream the status, its details and its trailers.
func TestPromise1EndsOfCalls(t *testing.T) {
	t.Parallel()
	eachCaller(t, func(t *testing.T, caller string, play func(*server, ...string) *process) {
		s := startServer(t, "--drain-timeout", "1s")
		all := endings()
		var enders []*ender
		var requests []string
		for i, e := range all {
			enders = append(enders, newEnder(t, s, fmt.Sprint("ends.", i), e))
			requests = append(requests, "--call", asJSON(t, enders[i].request(e)))
		}
		p := play(s, requests...)
		seen := newNumberedEvents(len(all))
		seen.readUntil(t, p, "receipt", len(all))
		last := len(all) - 1
		for i, e := range all[:last] {
			if e.cause != nil {
				e.cause(enders[i], seen.of(i + 1)[0])
			}
		}
		seen.readUntil(t, p, "end", last)
		all[last].cause(enders[last], event{})
		seen.add(p.all(t)...)
		for i, e := range all {
			compareEvents(t, p.name, e.wants(caller, i+1), seen.of(i + 1)[1:])
		}
	})
}

// TestPromise1EndsForThoseWhoComeLate: a pipe that was abandoned, and one of an earlier run of the server, are seen to
// have ended by whoever has the receive handle.
func TestPromise1EndsForThoseWhoComeLate(t *testing.T) {
	t.Parallel()
	flags := []string{
		"--key-file", writeFile(t, "handle-keys", "0 mint 2024-01-01T00:00:00Z "+vectorRoot), "--cluster-name", vectorCluster}
	s := startServer(t, flags...)
	lost := openPipe(t, s, "").receive
	s.kill()
	s = startServerAt(t, s.addr, flags...)
	call := s.play(t, inGo, "producer", "--queue", "nobody", "--wait", "--grace", "0.1")
	abandoned := call.await(t, "receipt").ReceiveHandle
	call.kill()
	eventually(t, "the call is withdrawn", func() bool { return s.statistics(t, "nobody").Ready == 0 })
	all := []ending{
		{reason: "LOST", code: codes.Aborted, name: "ABORTED"},
		{reason: "CANCELLED", code: codes.Canceled, name: "CANCELLED"},
	}
	eachCaller(t, func(t *testing.T, caller string, play func(*server, ...string) *process) {
		var requests []string
		for _, token := range []string{lost, abandoned} {
			requests = append(requests, "--receive", asJSON(t, &queuepb.ReceiveRequest{Handle: &queuepb.Handle{Token: token}}))
		}
		p := play(s, requests...)
		seen := newNumberedEvents(len(all))
		seen.add(p.all(t)...)
		for i, e := range all {
			compareEvents(t, p.name, e.wants(caller, i+1), withoutAttached(seen.of(i+1)))
		}
	})
}

// compareEvents compares what came of one request with what should have. Sentences are for people: they are only to be
// there.
func compareEvents(t *testing.T, who string, want, got []event) {
	t.Helper()
	for i, e := range got {
		if e.Event == "reply" || e.Event == "done" || e.Code == "OK" || e.Reason == "OK" {
			continue
		}
		if e.Message == "" && e.Error.message() == "" {
			t.Errorf("%s: no sentence in %+v", who, e)
		}
		got[i].Message = ""
		if e.Error != nil {
			got[i].Error = &eventError{Code: e.Error.Code, Reason: e.Error.Reason, Field: e.Error.Field}
		}
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: -want +got\n%s", who, diff)
	}
}

// numberedEvents are the events of a caller, by the number of their request.
type numberedEvents struct {
	byNumber [][]event
	kinds    map[string]int
}

func newNumberedEvents(requests int) *numberedEvents {
	return &numberedEvents{byNumber: make([][]event, requests+1), kinds: make(map[string]int)}
}

func (n *numberedEvents) add(events ...event) {
	for _, e := range events {
		n.byNumber[e.Number] = append(n.byNumber[e.Number], e)
		n.kinds[e.Event]++
	}
}

// readUntil reads until so many of a kind have come.
func (n *numberedEvents) readUntil(t *testing.T, p *process, kind string, count int) {
	t.Helper()
	for n.kinds[kind] < count {
		n.add(p.next(t))
	}
}

func (n *numberedEvents) of(number int) []event { return n.byNumber[number] }

func asJSON(t *testing.T, m proto.Message) string {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
