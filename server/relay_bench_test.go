package server_test

import (
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/internal/testbed"
)

// BenchmarkRelay compares a plain call with one answer at the server that serves with one through another replica.
func BenchmarkRelay(b *testing.B) {
	bed := testbed.New(b, testbed.Relayed())
	for name, dial := range map[string]func(...grpc.DialOption) (*grpc.ClientConn, error){"direct": bed.DialOwner, "relayed": bed.Dial} {
		conn, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		c := queuepb.NewQueueServiceClient(conn)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.OpenPipe(b.Context(), &queuepb.OpenPipeRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"-call", func(b *testing.B) {
			ctx := b.Context()
			consumer, err := c.Consume(ctx, &queuepb.ConsumeRequest{Queues: []string{name}})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := consumer.Recv(); err != nil {
				b.Fatal(err)
			}
			go func() {
				for {
					e, err := consumer.Recv()
					if err != nil {
						return
					}
					d := e.GetDelivery()
					_, _ = c.Reply(ctx, &queuepb.ReplyRequest{
						Handle: d.Message.ReplyTo, Lease: d.Lease, Ack: true,
						Body: &queuepb.ReplyRequest_Payload{Payload: d.Message.Payload},
					})
				}
			}()
			for b.Loop() {
				call, err := c.Call(ctx, &queuepb.CallRequest{Queue: name, Message: text("x")})
				for err == nil {
					_, err = call.Recv()
				}
				if !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
			}
		})
	}
}
