package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// exampleClient makes a client of a server in this process. Against a real one it is client.New("127.0.0.1:7420").
func exampleClient() (c *client.Client, closeBoth func()) {
	bed, err := testbed.Start(testbed.InMemory())
	if err != nil {
		log.Fatal(err)
	}
	c, err = client.New(bed.Addr, client.WithDialOptions(bed.DialOptions()...))
	if err != nil {
		log.Fatal(err)
	}
	return c, func() {
		if err := errors.Join(c.Close(), bed.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

// startWork runs a worker until the function it returns is called.
func startWork(c *client.Client, handler client.Handler, queue string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Work(ctx, client.WorkConfig{Concurrency: 4}, handler, queue) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
}

func Example_call() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	defer startWork(c, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
		return client.NewAnswer(strings.ToUpper(string(d.Payload)))
	}, "shout")()

	reply, err := c.Call(context.Background(), "shout", client.Message{Payload: []byte("hello")}).One()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", reply.Payload)
	// Output: HELLO
}

// Many messages, stored without waiting for each: what is on its way shares frames, and what the journal writes.
func ExampleClient_EnqueueAsync() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	var pending []*client.PendingEnqueue
	for i := range 1000 {
		pending = append(pending, c.EnqueueAsync(ctx, "letters", client.Message{Payload: fmt.Append(nil, "letter ", i)}))
	}
	for _, p := range pending {
		if _, err := p.Receipt(); err != nil {
			log.Fatal(err)
		}
	}
	q, err := c.Queue(ctx, "letters")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(q.GetStatistics().GetReady(), "letters are stored")
	// Output: 1000 letters are stored
}

// A handler may stream replies before its last one, and fail with an error that keeps its code.
func ExampleClient_Work() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	ctx := context.Background()
	defer startWork(c, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		words := strings.Fields(string(d.Payload))
		if len(words) == 0 {
			return nil, &client.Error{Code: 3, Reason: "NOTHING_TO_DO", Message: "send some words"}
		}
		for _, word := range words[:len(words)-1] {
			if _, err := d.ReplyMore(ctx, client.Answer{Payload: []byte(word)}); err != nil {
				return nil, err
			}
		}
		return client.NewAnswer(words[len(words)-1])
	}, "split")()

	for reply, err := range c.Call(ctx, "split", client.Message{Payload: []byte("one two three")}).Replies() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %s\n", reply.Sequence, reply.Payload)
	}
	_, err := c.Call(ctx, "split", client.Message{}).One()
	fmt.Println(errors.Is(err, client.ErrFailed), errors.Is(err, client.Reason("NOTHING_TO_DO")))
	// Output:
	// 1 one
	// 2 two
	// 3 three
	// true true
}

// A future is a handle: it can be put into a reply, and be awaited by whoever gets it.
func ExampleFuture() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	ctx := context.Background()
	type order struct {
		Number  int
		Invoice *client.Future[string] // comes later
	}
	defer startWork(c, func(context.Context, *client.Delivery) (*client.Answer, error) {
		return client.NewAnswer("invoice 7")
	}, "invoices")()
	defer startWork(c, client.Func(func(ctx context.Context, item string) (order, error) {
		// Not a Call: its pipe would end with ctx, which ends with this handler.
		receipt, err := c.Enqueue(ctx, "invoices", client.Message{Payload: []byte(item)}, client.WithPipe(client.PipeOptions{}))
		return order{Number: 7, Invoice: client.NewFuture[string](c, receipt.ReceiveHandle)}, err
	}), "orders")()

	message, err := client.NewMessage("a book")
	if err != nil {
		log.Fatal(err)
	}
	reply, err := c.Call(ctx, "orders", message).One()
	if err != nil {
		log.Fatal(err)
	}
	placed, err := client.Decode[order](reply.Payload)
	if err != nil {
		log.Fatal(err)
	}
	invoice, err := placed.Invoice.Bind(c).Await(ctx)
	fmt.Println(placed.Number, invoice, err)
	// Output: 7 invoice 7 <nil>
}

// A pipe can be opened by itself, and both its ends given away.
func ExampleClient_OpenPipe() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	ctx := context.Background()
	pipe, err := c.OpenPipe(ctx, client.PipeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer startWork(c, func(_ context.Context, d *client.Delivery) (*client.Answer, error) {
		return client.NewAnswer("I do not know who asked for " + string(d.Payload))
	}, "parcels")()
	if _, err := c.Enqueue(ctx, "parcels", client.Message{Payload: []byte("a book"), ReplyTo: pipe.Send}); err != nil {
		log.Fatal(err)
	}
	value, err := client.NewFuture[string](c, pipe.Receive).Await(ctx)
	fmt.Println(value, err)
	// Output: I do not know who asked for a book <nil>
}
