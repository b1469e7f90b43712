package server_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
)

// TestP04PayloadsComeAsTheyWere sends random bytes of random lengths, up to the limit, by either face there and by
// either face back.
func TestP04PayloadsComeAsTheyWere(t *testing.T) {
	c := newClient(t)
	random := rand.NewChaCha8([32]byte{4})
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}})
	repliers := c.repliers()
	s := c.openSession(&queuepb.Hello{})
	for i, length := range []int{0, 1, 2, 127, 128, 129, 16_383, 16_384, 65_535, 65_536, 1<<20 - 1, 1 << 20} {
		sent := make([]byte, length)
		_, _ = random.Read(sent) // never fails
		call := &queuepb.CallRequest{Queue: "work", Message: &queuepb.Message{Payload: sent}}
		var next func() *queuepb.CallResponse
		if id := uint64(i + 1); i%2 == 0 {
			s.do(operationOf(id, call))
			next = func() *queuepb.CallResponse { return s.next(id).GetCall() }
		} else {
			stream, err := c.Call(c.ctx, call)
			if err != nil {
				t.Fatal(err)
			}
			next = func() *queuepb.CallResponse { return must[*queuepb.CallResponse](t)(stream.Recv()) }
		}
		next() // the receipt
		d := c.delivery(consumer)
		if !bytes.Equal(d.Message.Payload, sent) {
			t.Errorf("a payload of %d bytes was delivered otherwise than it was sent", length)
		}
		repliers[i/2%2](&queuepb.ReplyRequest{
			Handle: d.Message.ReplyTo, Lease: d.Lease, Ack: true, Body: &queuepb.ReplyRequest_Payload{Payload: d.Message.Payload}})
		if reply := next().GetReply(); !bytes.Equal(reply.GetPayload(), sent) {
			t.Errorf("a payload of %d bytes came back otherwise than it was sent", length)
		}
	}
}

// TestLargePayloadBesideOthers: a large payload that comes with what needs closer looks, in one operation, stays the only
// one that is it, and has nothing else with it.
func TestLargePayloadBesideOthers(t *testing.T) {
	c := newClient(t)
	consumer := c.consume(&queuepb.ConsumeRequest{Queues: []string{"work"}, MaxInFlight: 10})
	s := c.openSession(&queuepb.Hello{})
	large := bytes.Repeat([]byte("large"), 100_000)
	s.do(operationOf(1, &queuepb.EnqueueBatchRequest{Items: []*queuepb.EnqueueRequest{
		{Queue: "work", Message: &queuepb.Message{Payload: large}},
		{Queue: "work", Message: &queuepb.Message{Payload: []byte("second")}, Priority: 3},
		{Queue: "work", Message: &queuepb.Message{Payload: []byte("third")}},
	}}))
	unknown := &queuepb.Message{Payload: large}
	unknown.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("unknown")))
	s.do(operationOf(2, &queuepb.EnqueueRequest{Queue: "work", Message: unknown}))
	got := make(map[string]int)
	for range 4 {
		m := c.delivery(consumer).Message
		got[string(m.Payload)]++
		if n := len(m.ProtoReflect().GetUnknown()); n > 0 {
			t.Errorf("%d bytes of unknown fields were delivered", n)
		}
	}
	if got[string(large)] != 2 || got["second"] != 1 || got["third"] != 1 {
		for payload, n := range got {
			t.Errorf("%d times a payload of %d bytes: %.20q", n, len(payload), payload)
		}
	}
}
