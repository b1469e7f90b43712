package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// What grpcurl does: it knows nothing but the server's address and JSON. It enqueues, calls, consumes and replies.
func TestReflection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := reflect(t, s.dial(t))

	request := r.method(t, "replyq.v1.QueueService", "Reply").Input().Fields()
	for _, field := range []string{"handle", "payload"} {
		if request.ByName(protoreflect.Name(field)) == nil {
			t.Errorf("ReplyRequest has no %q at its top level", field)
		}
	}

	receipt := r.call(t, "Enqueue", `{"queue": "reports", "message": {"payload": "Y2FuYXJ5"}, "pipe": {}}`)[0]
	future := text(receipt, "receipt", "receiveHandle", "token")

	consume := r.stream(t, "Consume", `{"queues": ["reports"]}`)
	consume.next(t) // started
	delivery := consume.next(t)
	replyTo, lease := text(delivery, "delivery", "message", "replyTo", "token"), text(delivery, "delivery", "lease", "token")
	if replyTo == "" || text(delivery, "delivery", "message", "payload") != "Y2FuYXJ5" {
		t.Fatalf("delivery = %v, want payload and reply_to", delivery)
	}
	outcome := r.call(t, "Reply", fmt.Sprintf(
		`{"handle": {"token": %q}, "payload": "ZG9uZQ==", "lease": {"token": %q}, "ack": true}`, replyTo, lease))[0]
	if got := text(outcome, "result", "outcome"); got != "REPLY_OUTCOME_BUFFERED" {
		t.Errorf("outcome = %q, want BUFFERED", got)
	}
	received := r.call(t, "Receive", fmt.Sprintf(`{"handle": {"token": %q}}`, future))
	if len(received) != 3 || text(received[1], "reply", "payload") != "ZG9uZQ==" ||
		text(received[2], "end", "reason") != "END_REASON_OK" {
		t.Errorf("Receive = %v, want attached, the reply and the end", received)
	}

	call := r.stream(t, "Call", `{"queue": "reports", "message": {"payload": "Y2FuYXJ5"}}`)
	call.next(t) // the receipt
	delivery = consume.next(t)
	r.call(t, "Reply", fmt.Sprintf(`{"handle": {"token": %q}, "payload": "ZG9uZQ==", "lease": {"token": %q}, "ack": true}`,
		text(delivery, "delivery", "message", "replyTo", "token"), text(delivery, "delivery", "lease", "token")))
	if got := text(call.next(t), "reply", "payload"); got != "ZG9uZQ==" {
		t.Errorf("Call: reply = %q", got)
	}
	if got := text(call.next(t), "end", "reason"); got != "END_REASON_OK" {
		t.Errorf("Call: end = %q", got)
	}
}

// The server has no reflection when it is told so.
func TestNoReflection(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--no-reflection")
	stream, err := reflectionpb.NewServerReflectionClient(s.dial(t)).ServerReflectionInfo(t.Context())
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil {
		t.Error("reflection answers")
	}
}

// A reflected calls methods that it has learned of from the server.
type reflected struct {
	conn  *grpc.ClientConn
	files *protoregistry.Files
}

// reflect asks for the file with QueueService, and all that it imports.
func reflect(t *testing.T, conn *grpc.ClientConn) *reflected {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "replyq.v1.QueueService"},
	}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	res, err := stream.Recv()
	if err != nil {
		t.Fatalf("reflection: %v", err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, encoded := range res.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(encoded, file); err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, file)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatalf("the files that reflection gives are not complete: %v", err)
	}
	return &reflected{conn, files}
}

func (r *reflected) method(t *testing.T, service, method string) protoreflect.MethodDescriptor {
	t.Helper()
	d, err := r.files.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		t.Fatalf("%s.%s is no method", service, method)
	}
	return m
}

// A reflectedStream is a call that is under way.
type reflectedStream struct {
	stream   grpc.ClientStream
	response protoreflect.MessageDescriptor
}

func (r *reflected) stream(t *testing.T, name, request string) *reflectedStream {
	t.Helper()
	m := r.method(t, "replyq.v1.QueueService", name)
	in := dynamicpb.NewMessage(m.Input())
	if err := protojson.Unmarshal([]byte(request), in); err != nil {
		t.Fatalf("%s %s: %v", name, request, err)
	}
	stream, err := r.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/replyq.v1.QueueService/"+name)
	if err == nil {
		err = stream.SendMsg(in)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &reflectedStream{stream, m.Output()}
}

func (s *reflectedStream) next(t *testing.T) any {
	t.Helper()
	out := dynamicpb.NewMessage(s.response)
	if err := s.stream.RecvMsg(out); err != nil {
		t.Fatalf("%s: %v", s.response.Name(), err)
	}
	return decoded(t, out)
}

// call makes a call, and returns all its responses.
func (r *reflected) call(t *testing.T, name, request string) (all []any) {
	t.Helper()
	s := r.stream(t, name, request)
	for {
		out := dynamicpb.NewMessage(s.response)
		if err := s.stream.RecvMsg(out); err != nil {
			if len(all) == 0 {
				t.Fatalf("%s %s: %v", name, request, err)
			}
			return all
		}
		all = append(all, decoded(t, out))
	}
}

// decoded turns a message into what its JSON is in Go.
func decoded(t *testing.T, m proto.Message) (document any) {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &document)
	}
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// text returns the text at a path in a JSON document, "" if there is none.
func text(document any, path ...string) string {
	for _, name := range path {
		object, _ := document.(map[string]any)
		document = object[name]
	}
	s, _ := document.(string)
	return s
}
