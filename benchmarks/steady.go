package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/replyq/replyq/client"
)

// A steady caller calls at a fixed rate, whatever happens to the service, and remembers how long it had to wait at most.
// It and its worker are in the process of the parent, which does nothing else meanwhile.
type steady struct {
	caller, worker *client.Client
	cancel         context.CancelFunc // of the pace
	calls          sync.WaitGroup
	stopWorker     func()

	mu      sync.Mutex
	longest time.Duration
	err     error
}

const (
	steadyPace = 10 * time.Millisecond
	// steadyPatience is the deadline of each call.
	steadyPatience = 30 * time.Second
	// steadyBefore is how long it calls before anything happens.
	steadyBefore = 500 * time.Millisecond
)

// startSteady returns when it has called for a while. The caller is connected to the first replica, the worker to the last.
func startSteady(replicas []*queueServer) (*steady, error) {
	s := &steady{}
	var err error
	if s.caller, err = client.New(replicas[0].addr); err != nil {
		return nil, err
	}
	if s.worker, err = client.New(replicas[len(replicas)-1].addr); err != nil {
		return nil, errors.Join(err, s.caller.Close())
	}
	var handled atomic.Int64
	s.stopWorker, err = replyqWorkers(s.worker, 1, replyqWork{
		queue: replyqQueue, concurrency: 1, prefetch: 256, handler: func() client.Handler { return replyqAnswer(&handled) },
	})
	if err != nil {
		return nil, errors.Join(err, s.caller.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.calls.Go(func() { s.pace(ctx) })
	<-time.After(steadyBefore)
	return s, nil
}

func (s *steady) pace(ctx context.Context) {
	ticks := time.NewTicker(steadyPace)
	defer ticks.Stop()
	for i := uint64(0); ; i++ {
		s.calls.Go(func() { s.call(i) })
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

// call repeats by its key what may have been lost, as the library does then.
func (s *steady) call(i uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), steadyPatience)
	defer cancel()
	request := newRequest(i, diskPayload)
	began := time.Now()
	key := strconv.FormatInt(began.UnixNano(), 36) + "-" + strconv.FormatUint(i, 36)
	answer, err := replyqOne(s.caller.Call(ctx, replyqQueue, client.Message{Payload: request}, client.WithIdempotencyKey(key)))
	if err == nil {
		err = checkAnswer(request, answer)
	}
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, took)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("a steady call failed after %v: %w", took, err)
	}
}

// stop returns how long a call took at most, and an error if one failed.
func (s *steady) stop() (time.Duration, error) {
	s.cancel()
	s.calls.Wait()
	s.stopWorker()
	return s.longest, errors.Join(s.err, s.caller.Close())
}
