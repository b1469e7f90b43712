package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/replyq/replyq/client"
)

// A report of any size is written as it is made, and read as it comes.
func ExampleDelivery_NewWriter() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	defer startWork(c, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		w := d.NewWriter(ctx, client.WriterOptions{ContentType: "text/csv"})
		for i := range 100_000 {
			if _, err := fmt.Fprintf(w, "row %d,%d\n", i, i*i); err != nil {
				return nil, err // nobody waits any more, say
			}
		}
		return nil, w.Close() // sends the rest, ends the pipe and acks
	}, "reports")()

	r := c.Call(context.Background(), "reports", client.Message{}).Reader()
	defer func() { _ = r.Close() }() // it never fails
	rows, last := 0, ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		rows, last = rows+1, lines.Text()
	}
	fmt.Println(rows, last, lines.Err())
	// Output: 100000 row 99999,9999800001 <nil>
}

// What was read of a value whose worker got lost is dropped, and the value read from its new beginning.
func ExampleReplyReader() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	defer startWork(c, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		w := d.NewWriter(ctx, client.WriterOptions{})
		if _, err := fmt.Fprintf(w, "made by attempt %d", d.Attempt); err != nil {
			return nil, err
		}
		if d.Attempt == 1 { // gets lost half-way: here, it gives up
			return nil, client.Retry(errors.Join(w.Flush(), errors.New("out of paper")), 0)
		}
		return nil, w.Close()
	}, "prints")()

	file, err := os.Create(filepath.Join(os.TempDir(), "replyq-example"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	r := c.Call(context.Background(), "prints", client.Message{}).Reader()
	defer func() { _ = r.Close() }() // it never fails
	for {
		_, err = io.Copy(file, r)
		if restart := (*client.RestartError)(nil); !errors.As(err, &restart) {
			break
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			log.Fatal(err)
		}
		if err := file.Truncate(0); err != nil {
			log.Fatal(err)
		}
	}
	content, _ := os.ReadFile(file.Name())
	fmt.Printf("%s, %v\n", content, err)
	// Output: made by attempt 2, <nil>
}

// A trace context, and the caller's deadline, go with each message into the handler's context and on from there.
func ExampleWithTraceContext() {
	c, closeBoth := exampleClient()
	defer closeBoth()
	defer startWork(c, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		trace, _ := client.TraceContextOf(ctx)
		return client.NewAnswer("part of " + trace.Parent)
	}, "inner")()
	defer startWork(c, func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		reply, err := c.Call(ctx, "inner", client.Message{}).One()
		return &client.Answer{Payload: reply.Payload}, err
	}, "outer")()

	ctx := client.WithTraceContext(context.Background(), client.TraceContext{
		Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	reply, err := c.Call(ctx, "outer", client.Message{}).One()
	fmt.Printf("%s, %v\n", reply.Payload, err)
	// Output: part of 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, <nil>
}
