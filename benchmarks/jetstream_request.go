package main

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Requests through a stream: the caller publishes, and waits until that is stored and the answer has come to its inbox.
// The inbox travels in a header, for JetStream keeps the reply subject to itself.

const (
	inboxHeader = "Inbox"
	slotHeader  = "Slot"
)

func jetstreamReplier(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	p := &part{handled: new(atomic.Int64), close: closeAll}
	for _, c := range conns {
		if err := jetstreamAnswer(c, p); err != nil {
			closeAll()
			return nil, err
		}
	}
	return p, nil
}

// jetstreamAnswer answers and acks what comes.
func jetstreamAnswer(c *nats.Conn, p *part) error {
	js, err := jetstream.New(c)
	if err != nil {
		return err
	}
	ctx, cancel := connectContext()
	defer cancel()
	consumer, err := js.Consumer(ctx, jetstreamName, natsGroup)
	if err != nil {
		return err
	}
	var answer []byte // messages come one after the other
	_, err = consumer.Consume(func(m jetstream.Msg) {
		p.handled.Add(1) // before the caller can know of it
		err := error(nil)
		if answer, err = appendAnswer(answer[:0], m.Data()); err == nil {
			reply := nats.NewMsg(m.Headers().Get(inboxHeader))
			reply.Data = answer
			reply.Header.Set(slotHeader, m.Headers().Get(slotHeader))
			err = errors.Join(c.PublishMsg(reply), m.Ack())
		}
		if err != nil {
			fatal(err)
		}
	}, jetstream.PullMaxMessages(jetstreamAhead))
	return err
}

// jetstreamRequester has a goroutine per request in flight.
func jetstreamRequester(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	r := &jetstreamRequests{answers: make([]chan []byte, j.Shape.InFlight)}
	for i := range r.answers {
		r.answers[i] = make(chan []byte, 1)
	}
	for _, c := range conns {
		if err := r.connect(c, j.Shape.InFlight); err != nil {
			closeAll()
			return nil, err
		}
	}
	return &part{close: closeAll, run: func(l *load) error { return l.calls(r.call) }}, nil
}

type jetstreamRequests struct {
	streams []jetstream.JetStream
	inboxes []string
	answers []chan []byte // by slot
}

func (r *jetstreamRequests) connect(c *nats.Conn, inFlight int) error {
	js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(inFlight))
	if err != nil {
		return err
	}
	inbox := c.NewInbox()
	_, err = c.Subscribe(inbox, func(m *nats.Msg) {
		slot, err := strconv.Atoi(m.Header.Get(slotHeader))
		if err != nil || slot < 0 || slot >= len(r.answers) {
			fatal(errors.New("an answer for nobody"))
		}
		r.answers[slot] <- m.Data
	})
	r.streams, r.inboxes = append(r.streams, js), append(r.inboxes, inbox)
	return errors.Join(err, c.Flush())
}

func (r *jetstreamRequests) call(ctx context.Context, s *slot, request []byte) ([]byte, error) {
	i := s.number % len(r.streams)
	m := nats.NewMsg(natsSubject)
	m.Data = request
	m.Header.Set(inboxHeader, r.inboxes[i])
	m.Header.Set(slotHeader, strconv.Itoa(s.number))
	stored, err := r.streams[i].PublishMsgAsync(m)
	if err != nil {
		return nil, err
	}
	select {
	case <-stored.Ok():
	case err := <-stored.Err():
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case answer := <-r.answers[s.number]:
		return answer, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
