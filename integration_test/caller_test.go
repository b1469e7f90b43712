package integration_test

import (
	"context"
	"errors"
	"iter"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// caller makes calls and receives, all at once, with package client: what python/caller.py does with generated stubs.
func (p *part) caller() error {
	var making sync.WaitGroup
	var failures error
	number := 0
	for _, text := range p.calls {
		number++
		n, request := number, &queuepb.CallRequest{}
		failures = errors.Join(failures, protojson.Unmarshal([]byte(text), request))
		making.Go(func() { p.numberedCall(n, request) })
	}
	for _, text := range p.receives {
		number++
		n, request, future := number, &queuepb.ReceiveRequest{}, client.Future[client.Reply]{}
		failures = errors.Join(failures, protojson.Unmarshal([]byte(text), request),
			future.UnmarshalText([]byte(request.Handle.GetToken())))
		making.Go(func() {
			printNumbered(n, p.client.Receive(context.Background(), future.Handle(), request.FromSequence))
		})
	}
	making.Wait()
	return failures
}

func (p *part) numberedCall(n int, r *queuepb.CallRequest) {
	options := []client.CallOption{client.WithPipe(client.PipeOptions{Timeout: r.Pipe.GetTimeout().AsDuration()})}
	if r.Expiry != nil {
		options = append(options, client.WithExpiry(r.Expiry.AsDuration()))
	}
	if r.Delay != nil {
		options = append(options, client.WithDelay(r.Delay.AsDuration()))
	}
	if r.RequireConsumer {
		options = append(options, client.WithRequireConsumer())
	}
	call := p.client.Call(context.Background(), r.Queue, client.Message{Payload: r.Message.GetPayload()}, options...)
	receipt, err := call.Receipt()
	if err != nil {
		emit(numbered(n, statusEvent(err)))
		return
	}
	emit(event{Event: "receipt", Number: n, MessageID: receipt.MessageID, ReceiveHandle: receipt.ReceiveHandle.Text()})
	printNumbered(n, call.Replies())
}

func printNumbered(n int, replies iter.Seq2[client.Reply, error]) {
	tellPipe(replies, func(e event) { emit(numbered(n, e)) }, func(client.Reply) {})
}

func numbered(n int, e event) event {
	e.Number = n
	return e
}
