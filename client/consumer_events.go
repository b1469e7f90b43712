package client

import (
	"errors"
	"time"

	"github.com/replyq/replyq/api/queuepb"
)

// This file is what run does to a consumer.

// Numbers of ConsumeResponse.
const (
	consumeStarted    = 1
	consumeDelivery   = 2
	consumeWaiterGone = 3
	consumeLeaseLost  = 4
)

// result implements sink.
func (s *Consumer) result(r *result) {
	if e := r.failure(); e != nil {
		s.refused(e)
		return
	}
	switch num, bytes := event(r.body); num {
	case consumeStarted:
		s.registered()
	case consumeDelivery:
		s.arrived(own(bytes, r.kept))
	case consumeWaiterGone:
		var p queuepb.WaiterGone
		if p.UnmarshalVT(bytes) == nil {
			s.tell(s.find(p.GetMessageId(), p.GetAttempt()), ErrWaiterGone)
		}
	case consumeLeaseLost:
		var p queuepb.LeaseLost
		if p.UnmarshalVT(bytes) == nil {
			s.tell(s.find(p.GetMessageId(), p.GetAttempt()), ErrLeaseLost)
		}
	}
	switch {
	case r.done && s.moves():
		s.goOn()
	case r.done:
		s.finish(ErrStopped)
	}
}

// moveOn has the replica, which goes away, deliver nothing more, so that the consumer can go on at another one when all that it
// holds is settled. With a grace it need not wait for that.
func (s *Consumer) moveOn() {
	s.mu.Lock()
	move := s.config.DisconnectGrace == 0 && s.running && !s.stopping && !s.asked && !s.isOver
	if move {
		s.asked, s.moving, s.told = true, true, false
	}
	s.mu.Unlock()
	if move {
		s.submitStop(func(*result) {
			s.mu.Lock()
			s.told = true
			s.mu.Unlock()
		})
	}
}

// moves tells whether the consumer has ended only to go on. What was asked of a replica may be done by the next one, if the
// connection is lost meanwhile.
func (s *Consumer) moves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	moves := s.moving && !s.stopping && !s.isOver && (s.config.MaxDeliveries == 0 || s.arrivals < s.config.MaxDeliveries)
	s.moving = false
	return moves
}

// goOn opens the consumer again after its end: then nothing is held any more.
func (s *Consumer) goOn() {
	s.mu.Lock()
	arrivals := s.arrivals
	s.mu.Unlock()
	s.body = s.request(nil, arrivals)
	if err := s.link.submitNow(&s.operation); err != nil {
		s.finish(err)
	}
}

func (s *Consumer) submitStop(then func(*result)) {
	t := newTask(opStop, then)
	t.body = appendRequest(t.body, opStop, &queuepb.StopConsumingRequest{ConsumerId: s.config.ConsumerID})
	_ = s.link.submitNow(&t.operation) // fails only when the client is closed, which ends the consumer as well
}

func (s *Consumer) registered() {
	s.mu.Lock()
	first := !s.running && !s.isOver
	s.running, s.asked = true, false
	held, stopping := s.held.all(), s.stopping
	s.mu.Unlock()
	if first {
		close(s.started)
	}
	if stopping { // the server has forgotten that with the stream
		s.submitStop(nil)
	}
	if s.link.leaving.Load() { // it was not running yet when the others were told
		s.moveOn()
	}
	// Which of the leases it still has, a consumer that has come back learns by extending them.
	s.extend(held)
}

func (s *Consumer) arrived(own []byte) {
	d := &Delivery{consumer: s}
	if err := decodeDelivery(own, d); err != nil {
		s.client.log.Error("delivery cannot be read", "consumer", s.config.ConsumerID, "error", err)
		return
	}
	d.extendedTo(d.LeaseExpiresAt)
	s.mu.Lock()
	if s.isOver {
		s.mu.Unlock()
		return
	}
	if s.leaseTime == 0 && !d.LeaseExpiresAt.IsZero() {
		s.leaseTime = max(time.Until(d.LeaseExpiresAt)-s.link.clockSkew(), time.Second)
	}
	if s.arrivals++; s.config.MaxDeliveries > 0 && s.arrivals > s.config.MaxDeliveries {
		s.mu.Unlock()
		s.giveBack(d)
		return
	}
	s.held.add(d)
	if s.take == nil {
		s.ready = append(s.ready, d)
		s.wakeOneLocked()
	}
	s.mu.Unlock()
	s.countLease(1)
	if s.take != nil {
		s.take(d)
	}
}

// giveBack releases a delivery that nobody shall see.
func (s *Consumer) giveBack(d *Delivery) {
	t := newTask(opSettle, nil)
	t.leased = true
	t.body = d.appendSettle(t.body, &Settlement{Action: SettleRelease})
	_ = s.link.submitNow(&t.operation) // fails only when the client is closed, which ends the consumer as well
}

// find returns the delivery that the server speaks of, nil if it is not held any more. That happens seldom enough to look
// through all of them.
func (s *Consumer) find(messageID string, attempt uint32) *Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.held.first; d != nil; d = d.next {
		if d.MessageID == messageID && d.Attempt == attempt {
			return d
		}
	}
	return nil
}

// tell ends the context of a delivery. One whose lease is lost is forgotten; one that nobody waits for is to be settled.
func (s *Consumer) tell(d *Delivery, cause Reason) {
	if d == nil {
		return
	}
	d.end(cause)
	if cause == ErrLeaseLost {
		s.client.log.Info("lease was lost", "queue", d.Queue, "message", d.MessageID, "attempt", d.Attempt)
		s.forget(d)
	}
}

// forget takes a delivery off the consumer, since it was settled or lost. It tells whether it was there.
func (s *Consumer) forget(d *Delivery) bool {
	s.mu.Lock()
	there := s.held.remove(d)
	s.mu.Unlock()
	if !there {
		return false
	}
	s.countLease(-1)
	return true
}

// refused ends the consumer with a refusal, or opens it again if that helps.
func (s *Consumer) refused(e *Error) {
	d, again := e.repeatAfter()
	s.mu.Lock()
	if !again || s.isOver {
		s.mu.Unlock()
		s.finish(e)
		return
	}
	s.retry = time.AfterFunc(spread(d), s.reopen)
	s.mu.Unlock()
}

// reopen submits the consumer once more.
func (s *Consumer) reopen() {
	body := s.resume(false)
	if body == nil {
		return
	}
	s.body = body
	if err := s.link.submitNow(&s.operation); err != nil {
		s.finish(err)
	}
}

// resume implements sink: the consumer opens again, with the leases that it holds.
func (s *Consumer) resume(anew bool) []byte {
	s.mu.Lock()
	if s.isOver {
		s.mu.Unlock()
		return nil
	}
	var lost []*Delivery
	var leases []*queuepb.Handle
	if anew {
		lost = s.dropLocked()
		s.ready = nil
	}
	for d := s.held.first; d != nil; d = d.next {
		leases = append(leases, &queuepb.Handle{Token: d.lease})
	}
	s.moving = s.moving && !s.told
	arrivals := s.arrivals
	through := s.config.MaxDeliveries > 0 && arrivals >= s.config.MaxDeliveries
	s.stopping = s.stopping || through
	s.mu.Unlock()
	s.loseAll(lost)
	if through && len(leases) == 0 {
		s.finish(ErrStopped)
		return nil
	}
	return s.request(leases, arrivals)
}

// extend asks for more time for deliveries, and ends the contexts of those that have none, or no waiter.
func (s *Consumer) extend(held []*Delivery) {
	const most = 1000 // leases in one request
	for len(held) > 0 {
		part := held[:min(len(held), most)]
		held = held[len(part):]
		p := &queuepb.ExtendLeasesRequest{LeaseTime: wireDuration(s.config.LeaseTime)}
		for _, d := range part {
			p.Leases = append(p.Leases, &queuepb.Handle{Token: d.lease})
		}
		t := newTask(opExtend, func(r *result) { s.extended(part, r) })
		t.leased = true
		t.body = appendRequest(t.body, opExtend, p)
		if s.link.submitNow(&t.operation) != nil {
			return // the client is closed, which ends the consumer as well
		}
	}
}

func (s *Consumer) extended(part []*Delivery, r *result) {
	if e := r.failure(); e != nil {
		if errors.Is(e, ReasonLeaseUnknown) {
			s.loseThese(part)
		}
		return // the next round asks again
	}
	var p queuepb.ExtendLeasesResponse
	if p.UnmarshalVT(r.body) != nil {
		return
	}
	for i, result := range p.GetResults() {
		if i >= len(part) {
			return
		}
		d := part[i]
		switch {
		case result.GetError() != nil:
			s.loseThese(part[i : i+1])
		case result.GetWaiterGone():
			d.end(ErrWaiterGone)
			fallthrough
		default:
			d.extendedTo(wireTime(result.GetExpiresAt()))
		}
	}
}

func (s *Consumer) loseThese(part []*Delivery) {
	for _, d := range part {
		s.tell(d, ErrLeaseLost)
	}
}
