package integration_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/badinput"
)

// A rawSession is a session whose frames a test writes.
type rawSession struct {
	t      *testing.T
	stream grpc.ClientStream
}

func (s *target) rawSession(ctx context.Context, t *testing.T, hello *queuepb.Hello) *rawSession {
	t.Helper()
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		queuepb.QueueService_Session_FullMethodName, grpc.ForceCodecV2(badinput.Bytes{}))
	if err != nil {
		t.Fatal(err)
	}
	raw := &rawSession{t, stream}
	if hello != nil {
		raw.send(frameOf(t, &queuepb.SessionRequest{Hello: hello}))
		if got := raw.next(); got.Hello == nil {
			t.Fatalf("the first frame is %v, want hello", got)
		}
	}
	return raw
}

func frameOf(t *testing.T, request *queuepb.SessionRequest) []byte {
	t.Helper()
	b, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send sends a frame. A stream that is over is known by what is received.
func (s *rawSession) send(frame []byte) {
	s.t.Helper()
	if err := s.stream.SendMsg(frame); err != nil && !errors.Is(err, io.EOF) {
		s.t.Fatal(err)
	}
}

func (s *rawSession) do(operations ...*queuepb.Operation) {
	s.t.Helper()
	s.send(frameOf(s.t, &queuepb.SessionRequest{Operations: operations}))
}

// next receives a frame, which there must be.
func (s *rawSession) next() *queuepb.SessionResponse {
	s.t.Helper()
	response, err := s.receive()
	if err != nil {
		s.t.Fatal(err)
	}
	return response
}

func (s *rawSession) receive() (*queuepb.SessionResponse, error) {
	var b []byte
	if err := s.stream.RecvMsg(&b); err != nil {
		return nil, err
	}
	response := &queuepb.SessionResponse{}
	return response, proto.Unmarshal(b, response)
}

// result waits for a result of an operation.
func (s *rawSession) result(id uint64) *queuepb.Result {
	s.t.Helper()
	for {
		for _, r := range s.next().Results {
			if r.Id == id {
				return r
			}
		}
	}
}

// end receives until the stream is over.
func (s *rawSession) end() badinput.Refusal {
	s.t.Helper()
	for {
		_, err := s.receive()
		if errors.Is(err, io.EOF) {
			return badinput.Refusal{}
		}
		if err != nil {
			refusal, err := badinput.RefusalOf(err, s.stream.Trailer())
			if err != nil {
				s.t.Error(err)
			}
			return refusal
		}
	}
}

func version1() *queuepb.Hello { return &queuepb.Hello{ProtocolVersion: 1} }

func info(id uint64) *queuepb.Operation {
	return &queuepb.Operation{Id: id, Request: &queuepb.Operation_GetServerInfo{GetServerInfo: &queuepb.GetServerInfoRequest{}}}
}

// fields is a field of a frame, as often as n says.
func fields(number protowire.Number, content []byte, n int) []byte {
	return bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content), n)
}
