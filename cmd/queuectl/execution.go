package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/replyq/replyq/client"
)

// How long a command has between SIGTERM and SIGKILL, and its standard error may stay open after it has exited.
const (
	killGrace   = 5 * time.Second
	stderrGrace = time.Second
)

// execution is the command at work on one delivery.
type execution struct {
	worker   *worker
	delivery *client.Delivery
	kill     context.CancelCauseFunc // ends the command

	errors   tail
	output   []byte // with --whole
	replies  int
	exited   bool // by itself; exitCode is set
	exitCode int
}

// run runs the command to its end, and sends what it prints. The error says what was wrong with the command.
func (e *execution) run(ctx context.Context) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(e.worker.path, e.worker.args...)
	cmd.Stdin = bytes.NewReader(e.delivery.Payload)
	// A file, so that no goroutine of package exec copies: Wait must not cut off what has not been sent yet.
	cmd.Stdout = in
	cmd.Stderr = io.MultiWriter(&e.errors, lockedWriter{e.worker.app})
	cmd.Env = append(os.Environ(), e.environment()...)
	cmd.WaitDelay = stderrGrace
	ownGroup(cmd)
	err = cmd.Start()
	_ = in.Close() // the command has it
	if err != nil {
		_ = out.Close() // nothing is in it
		return err
	}
	over := make(chan struct{})
	killed := make(chan struct{})
	disarm := context.AfterFunc(ctx, func() {
		defer close(killed)
		terminate(cmd)
		select {
		case <-over:
		case <-time.After(killGrace):
		}
		killGroup(cmd)
		_ = out.Close() // whoever escaped from the group cannot hold it open
	})
	sent := e.send(ctx, out)
	if sent != nil {
		e.kill(sent)
	}
	waited := cmd.Wait()
	close(over)
	if !disarm() {
		<-killed
	}
	_ = out.Close() // it was read to its end
	return e.outcome(cmd, waited)
}

// outcome tells what was wrong with a command that has exited.
func (e *execution) outcome(cmd *exec.Cmd, waited error) error {
	e.exitCode = cmd.ProcessState.ExitCode()
	e.exited = e.exitCode >= 0
	switch {
	case cmd.ProcessState.Success():
		return nil // also if something it left behind holds its standard error open
	case e.exited:
		return fmt.Errorf("command exited with status %d", e.exitCode)
	default:
		return fmt.Errorf("command died: %w", waited)
	}
}

// send sends what the command prints. It returns when the command has closed its standard output, or with the error of
// a reply that was refused.
func (e *execution) send(ctx context.Context, out io.Reader) error {
	if e.worker.whole {
		var err error
		e.output, err = io.ReadAll(io.LimitReader(out, int64(e.worker.limit)+1))
		if len(e.output) > e.worker.limit {
			return e.tooLong()
		}
		return ignoreClosed(err)
	}
	lines := bufio.NewReaderSize(out, 64<<10)
	for {
		text, err := e.readLine(lines)
		if errors.Is(err, errTooLong) {
			return e.tooLong()
		}
		if err != nil && len(text) == 0 {
			return ignoreClosed(err)
		}
		if ctx.Err() != nil {
			continue // nobody wants it; read on until the command is dead
		}
		if e.delivery.HasReplyTo() {
			if err := e.delivery.ReplyStream(ctx).Send(client.Answer{Payload: text}); err != nil && ctx.Err() == nil {
				return err
			}
			e.replies++
		}
	}
}

var errTooLong = errors.New("line too long")

// readLine reads one line, without its end. The last one need not have one.
func (e *execution) readLine(r *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		if len(text) > e.worker.limit+1 {
			return nil, errTooLong
		}
		if err == nil {
			return text[:len(text)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, err
		}
	}
}

func (e *execution) tooLong() error {
	return &client.Error{
		Code: codes.OutOfRange, Reason: client.ReasonPayloadTooLarge,
		Message: fmt.Sprintf("the command printed more than %d bytes for one reply", e.worker.limit),
	}
}

// ignoreClosed takes the end of the output for what it is.
func ignoreClosed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// environment tells the command about its message.
func (e *execution) environment() []string {
	d := e.delivery
	env := []string{
		"REPLYQ_ADDR=" + e.worker.app.Server,
		"REPLYQ_QUEUE=" + d.Queue,
		"REPLYQ_MESSAGE_ID=" + d.MessageID,
		"REPLYQ_ATTEMPT=" + strconv.FormatUint(uint64(d.Attempt), 10),
		"REPLYQ_FAILURES=" + strconv.FormatUint(uint64(d.Failures), 10),
		"REPLYQ_CONTENT_TYPE=" + d.ContentType,
		"REPLYQ_REPLY_TO=" + d.ReplyTo().Text(),
		"REPLYQ_LEASE=" + d.Lease().Text(),
	}
	if !d.Deadline.IsZero() {
		env = append(env, "REPLYQ_DEADLINE="+d.Deadline.UTC().Format(time.RFC3339))
	}
	for key, value := range d.Headers {
		env = append(env, "REPLYQ_HEADER_"+variable(key)+"="+value)
	}
	for name, handle := range d.Handles {
		env = append(env, "REPLYQ_HANDLE_"+variable(name)+"="+handle.Text())
	}
	return env
}

// variable turns the name of a header or handle into part of the name of a variable.
func variable(name string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(name))
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailBytes is how much of a command's standard error goes into an error reply.
const tailBytes = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if n := len(t.text) - tailBytes; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(t.text)), "")
}
