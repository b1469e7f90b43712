// Package faultload is a load for tests in which the server fails: producers, workers and those who wait, over the Go
// client, who note all that they do and see in a [history.History]. The package knows nothing of how the server fails; its
// users kill it, cut its power or fill its disk while a [Load] runs, end the load with [Load.Finish], and have the history
// checked.
//
// Of what producers send, 60 % are calls that wait for an answer, 20 % messages that nobody waits for, 10 % come back once
// before they are done, and 10 % are forwarded, or answered by a future or through a nested handle. Payloads are 16 bytes
// to 16 KiB long, and every fourth request has an idempotency key.
package faultload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/history"
)

// Config says how a load is. History is needed, and Addr or Connect.
type Config struct {
	// Addr is where the server listens, at all times.
	Addr string
	// Connect makes the i-th client, producers first, then two that work. Default: one that comes back quickly to Addr.
	Connect func(i int) (*client.Client, error)
	// History is where all is noted.
	History *history.History
	// Seed decides what is sent.
	Seed uint64
	// Name begins the names of the producers: no two loads of one history have the same.
	Name string
	// Producers is how many there are, each with a session of its own. Default 4.
	Producers int
	// Window is how many answers a producer waits for at a time. Default 16.
	Window int
	// Pace is the time between two requests of a producer, at least. Default: none.
	Pace time.Duration
	// Deadline is how long each operation may take, until its answer or its acceptance. Default: as long as it takes.
	Deadline time.Duration
	// Grace is how long pipes and deliveries wait for their caller or consumer to come back. Default: the service's; deliveries
	// do not wait.
	Grace time.Duration
	// Failed is told of every error that an operation ends with, whether or not it is tried again, by many goroutines.
	Failed func(operation string, err error)
	// Lossy leaves out nested handles: where what was confirmed may be lost, their pipes may wait for replies that are
	// gone, until their deadlines.
	Lossy bool
}

// The queues of the load.
const (
	// Ordered has one consumer.
	Ordered = "load.ordered"
	// Messages that are passed on go here.
	onward = "onward"
)

// Queues are all queues of the load. With several shards they are in different ones.
func Queues() []string { return []string{Ordered, "load.shared", "quick", onward} }

// long is a deadline that passes in no test.
const long = 30 * time.Minute

// A Load is a load that runs.
type Load struct {
	config  Config
	history *history.History
	clients []*client.Client // of the producers, then of the workers

	ctx       context.Context // of the producers and those who wait
	cancel    context.CancelFunc
	working   context.Context
	stopWork  context.CancelFunc
	stop      chan struct{} // closed when nothing more shall be sent
	producers sync.WaitGroup
	waiters   sync.WaitGroup
	workers   sync.WaitGroup
}

// Start starts a load. The server need not be there yet. End it with Finish, or with Close.
func Start(config Config) (*Load, error) {
	if config.Producers == 0 {
		config.Producers = 4
	}
	if config.Window == 0 {
		config.Window = 16
	}
	if config.Connect == nil {
		config.Connect = func(int) (*client.Client, error) { return newClient(config.Addr) }
	}
	l := &Load{config: config, history: config.History, stop: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.working, l.stopWork = context.WithCancel(context.Background())
	for i := range config.Producers + workers {
		c, err := config.Connect(i)
		if err != nil {
			l.Close()
			return nil, err
		}
		l.clients = append(l.clients, c)
	}
	for i := range config.Producers {
		l.producers.Go(func() { l.produce(l.clients[i], fmt.Sprint(config.Name, i), l.random(i)) })
	}
	for i := range workers {
		c := l.clients[config.Producers+i]
		for _, q := range Queues() {
			if q != Ordered || i == 0 {
				l.workers.Go(func() { l.work(c, q, fmt.Sprintf("%s-worker-%d-%s", config.Name, i, q)) })
			}
		}
	}
	return l, nil
}

// workers is how many clients consume, each of them from all queues but the ordered one.
const workers = 2

func newClient(addr string) (*client.Client, error) {
	return client.New(addr, client.WithBackoff(client.Backoff{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
}

// failed tells of an error, unless the load is over.
func (l *Load) failed(operation string, err error) {
	if err != nil && l.config.Failed != nil && l.working.Err() == nil && l.ctx.Err() == nil {
		l.config.Failed(operation, err)
	}
}

// limited is a context of one operation.
func (l *Load) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.config.Deadline == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.config.Deadline)
}

// random gives a source for one producer.
func (l *Load) random(producer int) *rand.Rand {
	return rand.New(rand.NewPCG(l.config.Seed, uint64(producer)))
}

// StopSending has producers send nothing more.
func (l *Load) StopSending() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
}

// Finish has the load come to its end on a server that is well: nothing more is sent, all who wait have their answers, all
// queues are emptied, and what is left is noted. If ctx ends first, those who still wait are given up, which the check
// finds; and the error says what was not finished.
func (l *Load) Finish(ctx context.Context) error {
	defer l.Close()
	l.StopSending()
	giveUp := context.AfterFunc(ctx, l.cancel)
	defer giveUp()
	l.producers.Wait()
	l.waiters.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("waiting for answers: %w", context.Cause(ctx))
	}
	c := l.clients[0]
	if err := awaitEmpty(ctx, c); err != nil {
		return err
	}
	l.endWork()
	return errors.Join(NoteLeft(ctx, c, l.history), NoteQueues(ctx, c, l.history))
}

// endWork ends the workers. They have nothing to do any more, or are given up.
func (l *Load) endWork() {
	l.stopWork()
	l.workers.Wait()
}

// Close ends the load at once. Closing again does nothing.
func (l *Load) Close() {
	l.StopSending()
	l.cancel()
	l.producers.Wait()
	l.waiters.Wait()
	l.endWork()
	for _, c := range l.clients {
		_ = c.Close() // of connections that have failed on purpose
	}
}
