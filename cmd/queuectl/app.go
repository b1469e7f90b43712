package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/client"
)

// app is what every command has at hand.
type app struct {
	globals
	std streams

	// The rest is set by dial, info by connect.
	client    *client.Client
	connected func() // to be called when the server has answered
	info      *queuepb.GetServerInfoResponse
	ctx       context.Context // ends with the first signal, by errInterrupted
	force     context.Context // ends with the second
	signals   chan os.Signal
	ending    sync.WaitGroup // the goroutine that waits for signals
	stop      func()

	mu sync.Mutex // over standard output and standard error
}

// answerTime is how long a server has to answer whether it is there, after it has not answered anything else.
const answerTime = time.Second

var errInterrupted = errors.New("interrupted")

// dial makes the client. Standard input is to be read before it: from here on a signal ends contexts and not the process.
func (a *app) dial() error {
	key, err := a.apiKey()
	if err != nil {
		return err
	}
	log, connected := a.logger()
	a.connected = connected
	options := []client.Option{
		client.WithName("queuectl"),
		client.WithLogger(log),
	}
	if key != "" {
		options = append(options, client.WithAPIKey(key))
	}
	if a.client, err = client.New(a.Server, options...); err != nil {
		return usageError(err.Error())
	}
	a.catchSignals()
	return nil
}

// connect makes the client and finds out whether the server is there, so that this is told apart from all other waiting.
func (a *app) connect() error {
	if err := a.dial(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, a.ConnectTimeout)
	defer cancel()
	defer a.watch(func(context.Context) string { return "a connection to " + a.Server })()
	var err error
	a.info, err = a.client.ServerInfo(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return &unreachableError{server: a.Server, answers: a.answers(), err: err}
	}
	a.connected()
	return err
}

// ask asks the server something that needs no session, and may be answered when none can be opened. It has ConnectTimeout for
// that: nothing is to be waited for but the server itself.
func ask[T any](a *app, rpc func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(a.ctx, a.ConnectTimeout)
	defer cancel()
	response, err := rpc(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = &unreachableError{server: a.Server, answers: a.answers(), err: err}
	}
	return response, err
}

// answers says whether there is a server, although it did not do what it was asked for.
func (a *app) answers() bool {
	ctx, cancel := context.WithTimeout(a.ctx, answerTime)
	defer cancel()
	_, err := healthpb.NewHealthClient(a.client.Conn()).Check(ctx, new(healthpb.HealthCheckRequest))
	code := status.Code(err)
	return code != codes.Unavailable && code != codes.DeadlineExceeded && code != codes.Canceled
}

func (a *app) apiKey() (string, error) {
	if a.APIKeyFile == "" {
		return os.Getenv("REPLYQ_API_KEY"), nil
	}
	file, err := os.ReadFile(a.APIKeyFile)
	if err != nil {
		return "", usageError("API key: " + err.Error())
	}
	return strings.TrimSpace(string(file)), nil
}

// catchSignals makes signals end a.ctx and a.force, one after the other.
func (a *app) catchSignals() {
	ctx, interrupt := context.WithCancelCause(context.Background())
	force, forceNow := context.WithCancelCause(context.Background())
	a.ctx, a.force = ctx, force
	a.signals = make(chan os.Signal, 2)
	signal.Notify(a.signals, syscall.SIGINT, syscall.SIGTERM)
	closing := make(chan struct{})
	a.ending.Go(func() {
		for _, end := range []context.CancelCauseFunc{interrupt, forceNow} {
			select {
			case <-a.signals:
				end(errInterrupted)
			case <-closing:
				return
			}
		}
		signal.Stop(a.signals) // a third one has its usual effect
	})
	a.stop = func() {
		signal.Stop(a.signals)
		close(closing)
		a.ending.Wait()
	}
}

func (a *app) close() {
	if a.client == nil {
		return
	}
	_ = a.client.Close() // nothing that a person could do about it
	if a.stop != nil {
		a.stop()
	}
}

func (a *app) interrupted() bool { return errors.Is(context.Cause(a.ctx), errInterrupted) }

// print writes a result.
func (a *app) print(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, _ = io.WriteString(a.std.out, text) // a closed pipe ends the process by its signal
}

// emit writes a result as a line of JSON.
func (a *app) emit(record any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = encodeLine(a.std.out, record) // as in print
}

func encodeLine(w io.Writer, record any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(record)
}

// note writes a line for a person who watches.
func (a *app) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(a.std.err, "queuectl: "+format+"\n", args...)
}

// lockedWriter is standard error, for others that write to it.
type lockedWriter struct{ *app }

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.std.err.Write(p)
}
