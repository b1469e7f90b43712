package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/replyq/replyq/api/queuepb"
)

// ConsumeConfig says how to consume. Zero fields have their defaults.
type ConsumeConfig struct {
	// MaxInFlight is how many deliveries may be unsettled at a time. Default 1; at most 10,000.
	MaxInFlight int
	// LeaseTime is how long one has before a delivery goes to somebody else. Default: the queue's, else 30 s. 1 s to
	// 12 h.
	LeaseTime time.Duration
	// ConsumerID names the consumer. Default: random. At most 64 characters of [A-Za-z0-9._-].
	ConsumerID string
	// DisconnectGrace is how long deliveries wait for the consumer when its connection is lost. Default 0: they return
	// to their queues at once. At most 1 h. Set it if work takes long and networks fail more often than programs.
	DisconnectGrace time.Duration
	// MaxDeliveries ends consuming when so many deliveries were made and settled. Default: no limit.
	MaxDeliveries int
	// IdleTime ends consuming when nothing is left to settle and there was no delivery for so long. Default: never.
	IdleTime time.Duration
}

// Consumer gets deliveries from queues. It is safe for use by many goroutines: each delivery goes to one of them.
type Consumer struct {
	operation
	client *Client
	link   *link
	config ConsumeConfig
	queues []string
	ctx    context.Context // of Consume, or of the handlers of a Work; parent of the deliveries' contexts

	// take, if set, gets the deliveries instead of Next: it is Work's, is called by run, and must not block.
	take func(*Delivery)

	started chan struct{} // closed when the server has registered the consumer, or refused it
	wake    chan struct{} // holds one: something to take may be there
	over    chan struct{} // closed when nothing will come any more

	mu        sync.Mutex
	running   bool // the server has registered it
	ready     []*Delivery
	held      deliveries // all that is unsettled, ready ones included
	err       error      // why it is over
	isOver    bool
	stopping  bool // Stop was asked for, or all deliveries of a limit have come
	asked     bool // the replica that goes away was asked to deliver no more
	moving    bool // so that when it ends, it goes on at another one
	told      bool // the replica has answered that: the next one will not be asked
	arrivals  int  // deliveries that have come
	unwatch   func() bool
	retry     *time.Timer
	leaseTime time.Duration // as far as known
}

// Consume begins to consume and returns once the server has registered the consumer. When ctx ends, the consumer
// leaves: what is unsettled returns to its queues. Use [Consumer.Stop] to finish what is there first, and [Client.Work]
// to have all of this done.
func (c *Client) Consume(ctx context.Context, config ConsumeConfig, queues ...string) (*Consumer, error) {
	s := newConsumer(ctx, c, config, queues)
	if err := s.openFor(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isOver {
		s.unwatch = context.AfterFunc(ctx, func() { s.leave(contextError(ctx, "consuming", OutcomeUnspecified)) })
	}
	return s, nil
}

func newConsumer(ctx context.Context, c *Client, config ConsumeConfig, queues []string) *Consumer {
	config.ConsumerID = cmp.Or(config.ConsumerID, "go-"+randomText())
	s := &Consumer{
		client: c, link: c.pick(), config: config, queues: queues, ctx: ctx,
		started: make(chan struct{}), wake: make(chan struct{}, 1), over: make(chan struct{}),
		leaseTime: config.LeaseTime,
	}
	s.operation = operation{sink: s, kind: opConsume}
	return s
}

// openFor registers the consumer and waits until that is done, or ctx ends.
func (s *Consumer) openFor(ctx context.Context) error {
	s.body = s.request(nil, 0)
	err := s.link.submit(ctx, &s.operation)
	if err == nil {
		select {
		case <-s.started:
			err = s.failure()
		case <-ctx.Done():
			err = contextError(ctx, s.link.waitsFor("the start of consuming"), OutcomeUnspecified)
			s.leave(err)
		}
	}
	if err != nil {
		return fmt.Errorf("consume %q: %w", s.queues, err)
	}
	return nil
}

// request encodes the operation, with the leases that are held. Of a limit so many deliveries have come already.
func (s *Consumer) request(leases []*queuepb.Handle, arrivals int) []byte {
	inFlight, limit := s.config.MaxInFlight, s.config.MaxDeliveries
	if limit > 0 && arrivals >= limit {
		// None shall come, which has no number. It is stopped at once; what slips through until then is given back.
		inFlight, limit = len(leases), 1
	} else if limit > 0 {
		limit -= arrivals
	}
	p := &queuepb.ConsumeRequest{
		Queues: s.queues, MaxInFlight: uint32(max(inFlight, 0)),
		LeaseTime: wireDuration(s.config.LeaseTime), ConsumerId: s.config.ConsumerID, HeldLeases: leases,
		DisconnectGrace: wireDuration(s.config.DisconnectGrace),
		MaxDeliveries:   uint64(max(limit, 0)),
		Wait:            wireDuration(s.config.IdleTime),
	}
	return appendRequest(nil, opConsume, p)
}

// ID returns the consumer's id.
func (s *Consumer) ID() string { return s.config.ConsumerID }

// Next waits for a delivery. Its error is [ErrStopped] when consuming has come to its end, by Stop, MaxDeliveries or
// IdleTime; that of ctx; or why the consumer is over.
func (s *Consumer) Next(ctx context.Context) (*Delivery, error) {
	for {
		s.mu.Lock()
		if len(s.ready) > 0 {
			d := s.ready[0]
			s.ready[0] = nil
			s.ready = s.ready[1:]
			if len(s.ready) > 0 {
				s.wakeOneLocked()
			}
			s.mu.Unlock()
			return d, nil
		}
		over, err := s.isOver, s.err
		s.mu.Unlock()
		if over {
			return nil, err
		}
		select {
		case <-s.wake:
		case <-s.over:
		case <-ctx.Done():
			return nil, contextError(ctx, "waiting for a delivery", OutcomeUnspecified)
		}
	}
}

// Deliveries gives one delivery after the other, until consuming comes to its end. Another error, as of Next, comes last
// with a nil delivery.
func (s *Consumer) Deliveries(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for {
			d, err := s.Next(ctx)
			if errors.Is(err, ErrStopped) {
				return
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// Stop asks the server for no more deliveries. Those that are there, or on their way, still come from Next; when all are
// settled, it returns [ErrStopped].
func (s *Consumer) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	var response queuepb.StopConsumingResponse
	request := &queuepb.StopConsumingRequest{ConsumerId: s.config.ConsumerID}
	err := s.client.unary(ctx, s.link, opStop, request, &response)
	if errors.Is(err, ReasonConsumerUnknown) {
		return nil // it is over already
	}
	return err
}

// Close leaves at once: what is unsettled returns to its queues, when the DisconnectGrace is over if there is one.
func (s *Consumer) Close() { s.leave(ErrStopped) }

func (s *Consumer) leave(err error) {
	if s.finish(err) {
		s.link.leave(&s.operation)
	}
}

// finish ends the consumer; what it holds is lost.
func (s *Consumer) finish(err error) bool {
	s.mu.Lock()
	if s.isOver {
		s.mu.Unlock()
		return false
	}
	s.isOver, s.err = true, err
	lost := s.dropLocked()
	s.ready = nil
	unwatch, retry := s.unwatch, s.retry
	running := s.running
	s.mu.Unlock()
	close(s.over)
	if !running {
		close(s.started)
	}
	if unwatch != nil {
		unwatch()
	}
	if retry != nil {
		retry.Stop()
	}
	s.loseAll(lost)
	return true
}

// dropLocked takes all deliveries off the consumer.
func (s *Consumer) dropLocked() []*Delivery {
	var lost []*Delivery
	for d := s.held.first; d != nil; d = s.held.first {
		s.held.remove(d)
		lost = append(lost, d)
	}
	return lost
}

func (s *Consumer) loseAll(lost []*Delivery) {
	for _, d := range lost {
		s.countLease(-1)
		d.end(ErrLeaseLost)
	}
}

// countLease tells the link of deliveries that are held.
func (s *Consumer) countLease(n int64) {
	s.link.leases.Add(n)
	if s.config.DisconnectGrace == 0 && s.link.bound.Add(n) == 0 && n < 0 && s.link.leaving.Load() {
		s.link.moveOn()
	}
}

func (s *Consumer) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Consumer) wakeOneLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
