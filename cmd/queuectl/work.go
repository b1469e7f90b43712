package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/client"
)

type workCmd struct {
	Queues      string        `arg:"" name:"queue" help:"The queue, or several with commas between them; made if they do not exist."`
	Command     []string      `arg:"" name:"cmd" help:"The command, after --."`
	Concurrency int           `default:"1" placeholder:"N" help:"How many commands run at a time (${default})."`
	Whole       bool          `help:"Send all that the command prints as one reply, instead of one reply per line."`
	Max         int           `placeholder:"N" help:"Stop after so many messages. Default: no limit."`
	Wait        time.Duration `placeholder:"TIME" help:"Stop when there was nothing to do for so long. Default: wait for ever."`
	Lease       time.Duration `placeholder:"TIME" help:"Lease time, 1s to 12h; extended while the command runs. Default: the queue's, else 30s."`
	consumerFlags
	Drain time.Duration `default:"20s" placeholder:"TIME" help:"How long running commands may go on after Ctrl-C (${default})."`
}

// exitTemporary is the exit status with which a command asks for a retry: EX_TEMPFAIL of sysexits.h.
const exitTemporary = 75

// reasonCommandFailed is the reason of an error reply for a command that failed.
const reasonCommandFailed client.Reason = "COMMAND_FAILED"

// Help is shown by work --help.
func (workCmd) Help() string {
	return `The command gets the payload on its standard input. Each line that it prints is sent as a reply at once. Its exit
status ends the pipe:

  0: OK, and the message is acked
  75: no end: the message is retried (EX_TEMPFAIL)
  any other: an error reply with reason COMMAND_FAILED, the last lines of its standard error and metadata exit_code, and
  the message is acked; if nobody waits for an answer, the message is retried

The command is killed (SIGTERM, then SIGKILL after 5 s; with all it has started) when nobody waits for the answer any
more, when the lease is lost, and at the second Ctrl-C; the first lets it finish. Its environment has REPLYQ_QUEUE,
REPLYQ_MESSAGE_ID, REPLYQ_ATTEMPT, REPLYQ_FAILURES, REPLYQ_CONTENT_TYPE, REPLYQ_DEADLINE, REPLYQ_REPLY_TO,
REPLYQ_LEASE, a REPLYQ_HEADER_… and a REPLYQ_HANDLE_… for each header and handle, and REPLYQ_ADDR.

` + jsonHelp("worked")
}

// Run works.
func (c *workCmd) Run(a *app) error {
	if c.Concurrency < 1 || c.Max < 0 {
		return usageError("--concurrency must be at least 1, and --max not negative")
	}
	path, err := exec.LookPath(c.Command[0])
	if err != nil {
		return usageError(err.Error())
	}
	if err := a.connect(); err != nil {
		return err
	}
	w := &worker{app: a, path: path, args: c.Command[1:], whole: c.Whole, limit: int(a.info.GetLimits().GetPayloadBytes())}
	queues := strings.Split(c.Queues, ",")
	if a.talkative() {
		a.note("working on %s; Ctrl-C ends it", c.Queues)
	}
	return a.client.Work(a.ctx, client.WorkConfig{
		Concurrency: c.Concurrency, LeaseTime: c.Lease, MaxDeliveries: c.Max, IdleTime: c.Wait, DrainGrace: c.Drain,
		ConsumerID: c.ID, DisconnectGrace: c.Grace,
	}, w.handle, queues...)
}

// worker runs the command for deliveries.
type worker struct {
	app   *app
	path  string
	args  []string
	whole bool
	limit int // bytes of a reply
}

// handle is the client's handler.
func (w *worker) handle(ctx context.Context, d *client.Delivery) (*client.Answer, error) {
	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	defer context.AfterFunc(w.app.force, func() { kill(errInterrupted) })()

	begin := time.Now()
	run := &execution{worker: w, delivery: d, kill: kill}
	failure := run.run(ctx)
	answer, result, err := run.verdict(ctx, failure)
	w.tell(d, run, result, failure, time.Since(begin))
	return answer, err
}

// tell prints what became of a message.
func (w *worker) tell(d *client.Delivery, run *execution, result string, failure error, took time.Duration) {
	record := &workedRecord{
		Type: "worked", MessageID: d.MessageID, Queue: d.Queue, Attempt: d.Attempt, Result: result, Replies: run.replies,
		Seconds: took.Seconds(),
	}
	if run.exited {
		record.ExitCode = &run.exitCode
	}
	if failure != nil {
		record.Message = failure.Error()
	}
	if w.app.JSON {
		w.app.emit(record)
		return
	}
	text := fmt.Sprintf("%s: message %s, attempt %d, %d replies, %v", result, d.MessageID, d.Attempt, run.replies,
		took.Round(time.Millisecond))
	if failure != nil {
		text += ": " + failure.Error()
	}
	w.app.print(text + "\n")
}

// verdict says how the delivery is settled, and in a word what that means.
func (e *execution) verdict(ctx context.Context, failure error) (answer *client.Answer, result string, err error) {
	cause := context.Cause(ctx)
	var refused *client.Error
	switch {
	case errors.Is(cause, errInterrupted):
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		return nil, "stopped", e.delivery.Release(release)
	case errors.As(cause, &refused): // a reply was refused
		return nil, "failed", refused
	case cause != nil:
		return nil, "stopped", cause
	case failure == nil:
		answer, err := e.done(ctx)
		return answer, "done", err
	case e.exited && e.exitCode == exitTemporary:
		return nil, "retried", client.Retry(failure, 0)
	case !e.delivery.HasReplyTo():
		return nil, "retried", failure
	default:
		return nil, "failed", e.errorReply(failure)
	}
}

// settleTime is how long a settlement that the handler makes by itself may take.
const settleTime = 10 * time.Second

// done ends the pipe with OK and acks the message.
func (e *execution) done(ctx context.Context) (*client.Answer, error) {
	if e.worker.whole {
		return &client.Answer{Payload: e.output}, nil
	}
	if !e.delivery.HasReplyTo() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	// Replies have gone out by themselves; what is left is an end without one.
	_, err := e.delivery.Settle(ctx, client.Settlement{Replies: []client.SettleReply{{}}})
	return nil, err
}

func (e *execution) errorReply(failure error) error {
	reply := &client.Error{Code: codes.Unknown, Reason: reasonCommandFailed, Message: failure.Error()}
	if e.exited {
		reply.Metadata = map[string]string{"exit_code": fmt.Sprint(e.exitCode)}
	}
	if last := e.errors.last(); last != "" {
		reply.Message += ": " + last
	}
	return reply
}
