package badinput

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
)

// Plain sends a request as a plain RPC, and returns the first answer or the refusal. An error says that the refusal
// contradicts itself, or that there was neither.
func Plain(ctx context.Context, conn grpc.ClientConnInterface, method string, request []byte) ([]byte, Refusal, error) {
	ctx, cancel := context.WithCancel(ctx) // a stream that answers would go on
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.ForceCodecV2(Bytes{}))
	if err != nil {
		return nil, Refusal{}, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg knows why
		return nil, Refusal{}, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, Refusal{}, err
	}
	var answer []byte
	if err = stream.RecvMsg(&answer); err == nil {
		return answer, Refusal{}, nil
	}
	refusal, err := RefusalOf(err, stream.Trailer())
	return nil, refusal, err
}

// RefusalOf reads a status in all the ways that clients do, which have to agree.
func RefusalOf(err error, trailer metadata.MD) (Refusal, error) {
	st := status.Convert(err)
	r := Refusal{Code: st.Code()}
	var problems []error
	note := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	retry := false
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if r.Reason = d.Reason; d.Domain != "replyq" {
				note("the domain of ErrorInfo is %q", d.Domain)
			}
		case *errdetails.BadRequest:
			r.Field = d.FieldViolations[0].Field
		case *errdetails.RetryInfo:
			retry = true
		}
	}
	if r.Field != "" && r.Code != codes.InvalidArgument {
		note("BadRequest with %v", r.Code)
	}
	// A session that is ended for what its client does wrong: waiting does not help.
	ownFault := r.Reason == "WINDOW_EXCEEDED" || r.Reason == "SLOW_CONSUMER"
	if r.Code == codes.ResourceExhausted && r.Reason != "" && retry == ownFault {
		note("RetryInfo with %s: %t", r.Reason, retry)
	}
	if got := trailer.Get("replyq-reason"); r.Reason != "" && !slices.Equal(got, []string{r.Reason}) {
		note("trailer replyq-reason is %q, and ErrorInfo says %s", got, r.Reason)
	}
	field := trailer.Get("replyq-field")
	switch {
	case len(field) > 1 || r.Field != "" && !slices.Equal(field, []string{r.Field}):
		note("trailer replyq-field is %q, and BadRequest says %q", field, r.Field)
	case len(field) == 1:
		r.Field = field[0]
	}
	if len(problems) > 0 {
		return r, errors.Join(append(problems, err)...)
	}
	return r, nil
}

// A Session is a session whose frames are bytes.
type Session struct {
	stream grpc.ClientStream
	next   uint64
}

// OpenSession opens a session.
func OpenSession(ctx context.Context, conn grpc.ClientConnInterface) (*Session, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		queuepb.QueueService_Session_FullMethodName, grpc.ForceCodecV2(Bytes{}))
	if err != nil {
		return nil, err
	}
	s := &Session{stream, 1}
	hello, err := proto.Marshal(&queuepb.SessionRequest{Hello: &queuepb.Hello{ProtocolVersion: 1}})
	if err != nil {
		return nil, err
	}
	if err := s.stream.SendMsg(hello); err != nil {
		return nil, err
	}
	_, err = s.receive()
	return s, err
}

// Throw sends a row's request as an operation that ends the session, and returns the end's refusal.
func (s *Session) Throw(r *Row) (Refusal, error) {
	operation, ok := Operation(s.next, r.Method, r.Request)
	if !ok {
		return Refusal{}, fmt.Errorf("a session does not carry %s", r.Method)
	}
	if err := s.stream.SendMsg(protowire.AppendBytes([]byte{2<<3 | 2}, operation)); err != nil && !errors.Is(err, io.EOF) {
		return Refusal{}, err
	}
	for {
		var b []byte
		if err := s.stream.RecvMsg(&b); err != nil {
			return RefusalOf(err, s.stream.Trailer())
		}
	}
}

func (s *Session) receive() (*queuepb.SessionResponse, error) {
	var b []byte
	if err := s.stream.RecvMsg(&b); err != nil {
		if refusal, wrong := RefusalOf(err, s.stream.Trailer()); wrong == nil {
			return nil, fmt.Errorf("the session has ended: %v", refusal)
		}
		return nil, err
	}
	response := &queuepb.SessionResponse{}
	return response, proto.Unmarshal(b, response)
}

// Do sends a row's request as an operation, and returns the first result as [Plain] does. What goes on is
// left.
func (s *Session) Do(r *Row) ([]byte, Refusal, error) {
	id := s.next
	s.next++
	operation, ok := Operation(id, r.Method, r.Request)
	if !ok {
		return nil, Refusal{}, fmt.Errorf("a session does not carry %s", r.Method)
	}
	frame := protowire.AppendBytes([]byte{2<<3 | 2}, operation)
	if err := s.stream.SendMsg(frame); err != nil && !errors.Is(err, io.EOF) {
		return nil, Refusal{}, err
	}
	for {
		response, err := s.receive()
		if err != nil {
			return nil, Refusal{}, err
		}
		for _, result := range response.Results {
			if result.Id != id {
				continue // of one that went on
			}
			if e := result.GetError(); e != nil {
				return nil, Refusal{codes.Code(e.Code), e.Reason, e.Field}, checkError(e)
			}
			if !result.Done {
				if err := s.stream.SendMsg(protowire.AppendVarint([]byte{4 << 3}, id)); err != nil { // detach
					return nil, Refusal{}, err
				}
			}
			answer, err := body(result)
			return answer, Refusal{}, err
		}
	}
}

// Close closes the client's side, and waits until the server has closed its own: with OK, or the error says otherwise.
func (s *Session) Close() error {
	if err := s.stream.CloseSend(); err != nil {
		return err
	}
	for {
		var b []byte
		if err := s.stream.RecvMsg(&b); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// body is the response in a result, encoded as the plain RPC would.
func body(result *queuepb.Result) ([]byte, error) {
	m := result.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("response"))
	if field == nil {
		return nil, nil
	}
	return proto.Marshal(m.Get(field).Message().Interface())
}

func checkError(e *queuepb.Error) error {
	if e.Outcome != queuepb.ErrorOutcome_ERROR_OUTCOME_NOT_APPLIED || e.Message == "" {
		return fmt.Errorf("error %s has outcome %v and message %q", e.Reason, e.Outcome, e.Message)
	}
	if e.RetryAfter == nil && codes.Code(e.Code) == codes.ResourceExhausted {
		return fmt.Errorf("error %s has no retry_after", e.Reason)
	}
	return nil
}

// Bytes is a codec for messages that are bytes already.
type Bytes struct{}

// Name implements encoding.CodecV2.
func (Bytes) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (Bytes) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (Bytes) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not bytes", v)
	}
	*b = data.Materialize()
	return nil
}
