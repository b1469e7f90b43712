package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/client"
)

// The queues of the demo, and who consumes them.
const (
	queueAnalyse = "files.analyse" // analysers
	queueFront   = "files.front"   // the front desk, which forwards
	queuePlan    = "files.plan"    // the planner, which answers with a future
)

// job is the payload of all requests.
type job struct {
	Folder string `json:"folder"`
	// StallAfter, if not 0, has the first attempt stop after so many files, until its process is killed.
	StallAfter int `json:"stall_after,omitempty"`
	// Splice has the planner splice the future in, instead of sending it as a handle.
	Splice bool `json:"splice,omitempty"`
}

// answer is the payload of the analysers' replies: one per file, then the total.
type answer struct {
	Worker string      `json:"worker"`
	File   *fileReport `json:"file,omitempty"`
	Total  *total      `json:"total,omitempty"`
}

// plan is the payload of the planner's reply. The future encodes as its handle.
type plan struct {
	Worker string                 `json:"worker"`
	Total  *client.Future[answer] `json:"total"`
}

// reasonNoFolder is the analysers' own reason for an error reply.
const reasonNoFolder client.Reason = "NO_SUCH_FOLDER"

// drainTime is how long a worker that is to end may take.
const drainTime = 2 * time.Second

// playRole is the main function of the demo's other processes. It returns the exit code.
func playRole(role string, args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "demo: a role needs an address and a name; it is not meant to be started by hand")
		return 1
	}
	signal.Ignore(syscall.SIGINT) // Ctrl-C goes to all: the first process decides
	address, name := args[0], args[1]
	c, err := client.New(address, client.WithName(name))
	if err == nil {
		err = perform(c, role, name)
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %s: %v\n", name, err)
		return 1
	}
	return 0
}

func perform(c *client.Client, role, name string) error {
	if role == "await" {
		return awaitPlan(c, name)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { // ends with standard input, at the latest with the process
		_, _ = io.Copy(io.Discard, os.Stdin) // nobody writes: its end says that it is time to go
		stop()
	}()
	config := client.WorkConfig{DrainGrace: drainTime, ConsumerID: name}
	switch role {
	case "analyser":
		return c.Work(ctx, config, analyser(name), queueAnalyse)
	case "front":
		return c.Work(ctx, config, forward, queueFront)
	case "planner":
		return c.Work(ctx, config, planner(name), queuePlan)
	default:
		return fmt.Errorf("no role %q", role)
	}
}

// analyser streams a reply per file and ends with the total.
func analyser(name string) client.Handler {
	return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		j, err := client.Decode[job](d.Payload)
		if err != nil {
			return nil, err
		}
		files, err := goFiles(j.Folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &client.Error{
				Code: codes.NotFound, Reason: reasonNoFolder, Message: "there is no such folder",
				Metadata: map[string]string{"folder": j.Folder},
			}
		}
		if err != nil {
			return nil, err
		}
		var sum total
		for i, path := range files {
			if i == j.StallAfter && i > 0 && d.Attempt == 1 {
				<-ctx.Done() // the demo kills this process here
				return nil, ctx.Err()
			}
			report, err := analyseFile(j.Folder, path)
			if err != nil {
				return nil, err
			}
			sum.add(report)
			progress, err := client.NewAnswer(answer{Worker: name, File: &report})
			if err != nil {
				return nil, err
			}
			if _, err := d.ReplyMore(ctx, *progress); err != nil {
				return nil, err
			}
		}
		return client.NewAnswer(answer{Worker: name, Total: &sum})
	}
}

// forward passes the message on, reply_to included: whoever consumes the other queue answers the first asker. The ack
// of the message and the new one are one step.
func forward(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
	_, err := d.Settle(ctx, client.Settlement{
		Messages: []client.Item{{Queue: queueAnalyse, Message: d.Message()}},
	})
	return nil, err
}

// planner has the work done by others, and answers at once with the future of their result.
func planner(name string) client.Handler {
	return func(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
		j, err := client.Decode[job](d.Payload)
		if err != nil {
			return nil, err
		}
		receipt, err := d.Client().Enqueue(ctx, queueAnalyse, client.Message{Payload: d.Payload}, client.WithPipe(client.PipeOptions{}))
		if err != nil {
			return nil, err
		}
		if j.Splice {
			_, err := d.Splice(ctx, receipt.ReceiveHandle)
			return nil, err
		}
		future := client.NewFuture[answer](d.Client(), receipt.ReceiveHandle)
		return client.NewAnswer(plan{Worker: name, Total: future})
	}
}

// awaitPlan is a process that gets the planner's reply on its standard input and knows nothing else. It awaits the
// future in it, and prints the value.
func awaitPlan(c *client.Client, name string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()
	value, err := p.Total.Bind(c).Await(ctx)
	if err != nil {
		return fmt.Errorf("%s awaits: %w", name, err)
	}
	return json.NewEncoder(os.Stdout).Encode(value)
}
