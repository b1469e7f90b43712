package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/client"
)

// minFiles is how many files the folder must have for the story to work.
const minFiles = 5

// stallAfter is after how many files a worker is killed.
const stallAfter = 3

// story is the demo's state while it is told.
type story struct {
	cast      *cast
	server    *process
	address   string
	folder    string
	client    *client.Client
	analysers map[string]*process
	want      total
	step      int
	checks    int
	replies   int
}

// tell tells the whole story.
func tell(ctx context.Context, c *cast, binary, folder string) (err error) {
	begin := time.Now()
	s := &story{cast: c, folder: folder, analysers: make(map[string]*process)}
	if err := s.open(ctx, binary); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.client.Close()) }()
	for _, step := range []func(context.Context) error{
		s.stream, s.forward, s.future, s.splice, s.failure, s.forgery, s.crash, s.shutdown,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("step %d: %w", s.step, err)
		}
	}
	fmt.Printf("\nAll %d checks passed: %d replies in %.1f s. All processes have ended; nothing is left behind.\n",
		s.checks, s.replies, time.Since(begin).Seconds())
	return nil
}

// open starts everybody.
func (s *story) open(ctx context.Context, binary string) error {
	var err error
	if s.want, err = analyseFolder(s.folder); err != nil {
		return err
	}
	if s.server, s.address, err = s.cast.startServer(binary); err != nil {
		return err
	}
	if s.client, err = client.New(s.address, client.WithName("demo")); err != nil {
		return err
	}
	s.line("input", "%s: %d Go files, %s lines", s.folder, s.want.Files, grouped(s.want.Lines))
	s.line("server", "queue-server, pid %d, at %s", s.server.cmd.Process.Pid, s.address)
	for _, w := range []struct{ role, name, queue string }{
		{"analyser", "analyser-1", queueAnalyse},
		{"analyser", "analyser-2", queueAnalyse},
		{"front", "front-desk", queueFront},
		{"planner", "planner", queuePlan},
	} {
		p, err := s.cast.startRole(s.address, w.role, w.name)
		if err != nil {
			return err
		}
		if w.role == "analyser" {
			s.analysers[w.name] = p
		}
		s.line("worker", "%-11s pid %-8d consumes %s", w.name, p.cmd.Process.Pid, w.queue)
	}
	return s.waitForConsumers(ctx)
}

func (s *story) waitForConsumers(ctx context.Context) error {
	for queue, want := range map[string]uint32{queueAnalyse: 2, queueFront: 1, queuePlan: 1} {
		for {
			q, err := s.client.Queue(ctx, queue)
			if err == nil && q.GetStatistics().GetConsumers() == want {
				break
			}
			if err != nil && !errors.Is(err, client.ReasonQueueNotFound) {
				return err
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("workers of %s did not come: %w", queue, ctx.Err())
			}
		}
	}
	return nil
}

func (s *story) stream(ctx context.Context) error {
	s.title("A request with streamed replies",
		"One message asks for an analysis. The worker, who does not know the asker, sends a reply per file",
		"and then the total.")
	begin := time.Now()
	call := s.call(ctx, queueAnalyse, job{Folder: s.folder})
	got, err := s.follow(call, s.progress)
	if err != nil {
		return err
	}
	s.line("end", "OK: %d replies in %d ms, all from %s", got.replies, time.Since(begin).Milliseconds(), got.last.Worker)
	s.total(got.last.Total)
	if err := s.check(got.replies == s.want.Files+1, "one reply per file and one for the total, in order, without a gap"); err != nil {
		return err
	}
	return s.checkTotal(got.last.Total)
}

func (s *story) forward(ctx context.Context) error {
	s.title("A request that is forwarded",
		"The front desk passes the message on to another queue, reply address included, and is out of it:",
		"an analyser answers the asker.")
	call := s.call(ctx, queueFront, job{Folder: s.folder})
	receipt, err := call.Receipt()
	if err != nil {
		return err
	}
	got, err := s.follow(call, nil)
	if err != nil {
		return err
	}
	s.line("asked", "%s, with message %s", queueFront, receipt.MessageID)
	s.line("answered", "%s, working on message %s of %s", got.last.Worker, got.source, queueAnalyse)
	if err := s.check(got.source != receipt.MessageID, "the answer came from the forwarded message"); err != nil {
		return err
	}
	return s.checkTotal(got.last.Total)
}

func (s *story) future(ctx context.Context) error {
	s.title("A reply that carries a future",
		"The planner hands the work on and answers at once, with a future in its JSON. Another process, which",
		"is given only that JSON, awaits it.")
	reply, err := s.call(ctx, queuePlan, job{Folder: s.folder}).One()
	if err != nil {
		return err
	}
	s.replies++
	s.line("reply", "%s", shorten(string(reply.Payload), 96))
	text, err := askRole(ctx, s.address, "await", "third-process", reply.Payload)
	if err != nil {
		return err
	}
	var value answer
	if err := json.Unmarshal(text, &value); err != nil {
		return fmt.Errorf("what the third process printed: %w", err)
	}
	s.line("awaited", "by another process: the total, computed by %s", value.Worker)
	return s.checkTotal(value.Total)
}

func (s *story) splice(ctx context.Context) error {
	s.title("An answer that is somebody else's future",
		"This time the planner splices the future into the asker's pipe. The asker sees nothing of that and",
		"just gets the replies.")
	got, err := s.follow(s.call(ctx, queuePlan, job{Folder: s.folder, Splice: true}), nil)
	if err != nil {
		return err
	}
	s.line("end", "OK: %d replies, from %s, through the planner's pipe", got.replies, got.last.Worker)
	return s.checkTotal(got.last.Total)
}

func (s *story) failure(ctx context.Context) error {
	s.title("An error reply",
		"The folder does not exist. The worker's error, with code, reason and details, ends the pipe.")
	_, err := s.call(ctx, queueAnalyse, job{Folder: s.folder + "-that-is-not-there"}).One()
	var end *client.EndError
	if !errors.As(err, &end) {
		return fmt.Errorf("got %v, want the end of a pipe", err)
	}
	s.line("end", "%s: %s, reason %s, code %v", end.Reason, end.Err.Message, end.Err.Reason, end.Err.Code)
	return s.check(errors.Is(err, client.ErrFailed) && end.Err.Reason == reasonNoFolder && end.Err.Code == codes.NotFound,
		"reason and code are the worker's own")
}

func (s *story) forgery(ctx context.Context) error {
	s.title("A damaged handle",
		"Handles are checked where they are sent: the producer learns of a bad one at once, and not the",
		"consumer later.")
	pipe, err := s.client.OpenPipe(ctx, client.PipeOptions{})
	if err != nil {
		return err
	}
	bad := pipe.Send
	text := []byte(bad.Text())
	if last := &text[len(text)-1]; *last != 'A' { // another character, and so another signature
		*last = 'A'
	} else {
		*last = 'B'
	}
	if err := bad.UnmarshalText(text); err != nil {
		return err
	}
	message := client.Message{ReplyTo: bad}
	_, err = s.client.Enqueue(ctx, queueAnalyse, message)
	var refused *client.Error
	if !errors.As(err, &refused) {
		return fmt.Errorf("got %v, want a refusal", err)
	}
	s.line("refused", "%s, field %s", refused.Reason, refused.Field)
	return s.check(errors.Is(err, client.ReasonHandleInvalid) && refused.Outcome == client.OutcomeNotApplied,
		"nothing was stored")
}

func (s *story) crash(ctx context.Context) error {
	s.title("A worker that is killed",
		"In the middle of its replies the worker's process gets SIGKILL. The message is delivered again, and",
		"the same asker is served.")
	killed := ""
	got, err := s.follow(s.call(ctx, queueAnalyse, job{Folder: s.folder, StallAfter: stallAfter}), func(r client.Reply, a answer) {
		if r.Sequence == stallAfter {
			killed = a.Worker
			s.analysers[killed].kill()
			s.line("killed", "%s, after %d replies of attempt %d", killed, r.Sequence, r.Attempt)
		}
	})
	if err != nil {
		return err
	}
	s.line("end", "OK: from %s, attempt %d, after %d replies of both", got.last.Worker, got.attempt, got.replies)
	if err := s.check(got.attempt == 2 && got.last.Worker != killed, "another worker finished it, as attempt 2"); err != nil {
		return err
	}
	return s.checkTotal(got.last.Total)
}

func (s *story) shutdown(ctx context.Context) error {
	s.title("The server stops while somebody waits",
		"No waiter hangs: the server, which keeps no journal, ends every pipe with a reason before it goes.")
	for _, p := range s.cast.processes[1:] {
		if err := p.end(); err != nil {
			return err
		}
	}
	call := s.call(ctx, "nobody.consumes.this", job{})
	if _, err := call.Receipt(); err != nil {
		return err
	}
	if err := s.server.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := call.One()
	var end *client.EndError
	if !errors.As(err, &end) {
		return fmt.Errorf("got %v, want the end of a pipe", err)
	}
	s.line("end", "%s: %s", end.Reason, end.Err.Message)
	if err := s.check(errors.Is(err, client.ErrShuttingDown), "the waiter was told"); err != nil {
		return err
	}
	select {
	case <-s.server.done:
	case <-ctx.Done():
		return errors.New("queue-server did not stop")
	}
	var exit *exec.ExitError
	if errors.As(s.server.err, &exit) {
		s.line("server", "exited with %d", exit.ExitCode())
	}
	return s.check(s.server.err == nil, "queue-server has exited with 0")
}
