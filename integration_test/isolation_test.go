package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// A spy is somebody of one tenant who has come by all that another tenant has.
type spy struct {
	*target
	t    *testing.T
	stub queuepb.QueueServiceClient
	// own is a pipe of the spy's, and lease makes a delivery to the spy.
	own   *queuepb.OpenPipeResponse
	lease func() *queuepb.Handle
}

// TestP16EveryMethodKeepsTenantsApart: whatever a tenant uses of another's, in any field of any method, it learns as much as
// from what never was: nothing. Both answers are the same to the byte, names aside.
func TestP16EveryMethodKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	s := startTarget(t)
	theirs := s.victim(t)
	never := s.neverWas(t, theirs)
	p := s.spy(t)
	session := s.rawSession(s.foreign, t, version1())
	before, ids := s.queues(s.ctx, t), uint64(0)

	covered := make(map[string]bool)
	for _, row := range tenantRows() {
		covered[row.method] = true
		for i, request := range row.requests {
			t.Run(fmt.Sprintf("%s %d", row.method[strings.LastIndex(row.method, "/")+1:], i), func(t *testing.T) {
				got := p.plainly(t, row.method, request(p, &theirs.belongings))
				want := p.plainly(t, row.method, request(p, never))
				if diff := cmp.Diff(hide(want), hide(got)); diff != "" {
					t.Errorf("plain (-what never was +another tenant's):\n%s", diff)
				}
				for _, b := range []*belongings{&theirs.belongings, never} {
					ids++
					want, got = got, p.inSession(session, ids, row.method, request(p, b))
				}
				if diff := cmp.Diff(hide(want), hide(got)); diff != "" {
					t.Errorf("session (-another tenant's +what never was):\n%s", diff)
				}
			})
		}
	}
	t.Run("what a Settle has forwarded", p.checkForwarded)
	for _, method := range badinput.Methods() {
		if !covered[method] {
			t.Errorf("%s: nobody has tried to reach another tenant with it: add it to tenantRows", method)
		}
	}
	s.checkUnchanged(s.ctx, t, before)
	theirs.checkIntact(t, s)
}

// checkForwarded: a Settle is never refused for a handle that may have come with the delivery. What it forwards of another
// tenant's must arrive as what never was does.
func (p *spy) checkForwarded(t *testing.T) {
	n := len(messages(&belongings{send: &queuepb.Handle{}, receive: &queuepb.Handle{}}))
	next := p.deliveries("settled")
	var arrived []string
	for range 4 * n { // theirs and never, plain; and again in the session
		d := next()
		arrived = append(arrived, fmt.Sprintf("reply_to %t, handles %d, ended %v",
			d.Message.ReplyTo != nil, len(d.Message.Handles), d.EndedHandles))
	}
	for i := 0; i < len(arrived); i += 2 * n {
		if diff := cmp.Diff(arrived[i+n:i+2*n], arrived[i:i+n]); diff != "" {
			t.Errorf("(-what never was +another tenant's):\n%s", diff)
		}
	}
}

// plainly makes a plain call as the spy, and tells all that came back.
func (p *spy) plainly(t *testing.T, method string, request proto.Message) string {
	t.Helper()
	b, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := p.conn.NewStream(p.foreign, &grpc.StreamDesc{ServerStreams: true}, method, grpc.ForceCodecV2(badinput.Bytes{}))
	if err != nil {
		t.Fatal(err)
	}
	if err = stream.SendMsg(b); err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		t.Fatal(err)
	}
	var answer []byte
	if err = stream.RecvMsg(&answer); err != nil {
		trailer := stream.Trailer()
		delete(trailer, "grpc-status-details-bin") // is in the status
		return fmt.Sprintf("%v %v", prototext.Format(status.Convert(err).Proto()), sorted(trailer))
	}
	return describe(t, badinput.Response(method), answer)
}

// sorted are headers in a fixed order.
func sorted(md metadata.MD) (all []string) {
	for name, values := range md {
		all = append(all, fmt.Sprint(name, values))
	}
	slices.Sort(all)
	return all
}

// inSession makes the call in a session; "" for what no session carries.
func (p *spy) inSession(session *rawSession, id uint64, method string, request proto.Message) string {
	b, err := proto.Marshal(request)
	if err != nil {
		p.t.Fatal(err)
	}
	operation, ok := badinput.Operation(id, method, b)
	if !ok {
		return ""
	}
	session.send(fields(2, operation, 1))
	result := session.result(id)
	if !result.Done {
		session.send(frameOf(p.t, &queuepb.SessionRequest{Detach: []uint64{id}}))
	}
	result.Id = 0
	scrub(result.ProtoReflect())
	return prototext.Format(result)
}

// describe tells what an answer says, but for what is new each time.
func describe(t *testing.T, response proto.Message, answer []byte) string {
	t.Helper()
	if err := proto.Unmarshal(answer, response); err != nil {
		t.Fatal(err)
	}
	scrub(response.ProtoReflect())
	return prototext.Format(response)
}

// scrub takes out ids, handles and times: what the server makes anew for each request.
func scrub(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "message_id" || f.Name() == "consumer_id":
			m.Clear(f)
		case f.Message() == nil || f.IsMap():
		case f.Message().FullName() == "replyq.v1.Handle", f.Message().FullName() == "google.protobuf.Timestamp",
			f.Message().FullName() == "google.protobuf.Duration" && f.Name() == "oldest_age":
			m.Clear(f)
		case f.IsList():
			for i := range v.List().Len() {
				scrub(v.List().Get(i).Message())
			}
		default:
			scrub(v.Message())
		}
		return true
	})
}
