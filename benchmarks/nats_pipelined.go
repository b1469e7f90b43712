package main

import (
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// The fastest way to ask over NATS that was found, made by hand: an inbox per connection, with a subscription whose
// callback takes an answer and publishes the slot's next request by itself. Nobody waits for an answer, so there is no
// goroutine per request and no change of goroutine, and no context or time limit either.

func natsPipelinedCaller(j *job) (*part, error) {
	return natsInboxCaller(j, func(in *natsInbox, i int, s *slot) error {
		return in.publish(i, s.next())
	}, func(s *slot, answer []byte) (bool, error) {
		return true, s.check(answer)
	})
}

// natsInboxCaller is a caller that asks by hand. ask publishes the next request of a slot, which is the i-th of its
// connection; take takes an answer and reports whether the request has all of them.
func natsInboxCaller(
	j *job, ask func(in *natsInbox, i int, s *slot) error, take func(*slot, []byte) (bool, error),
) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	inboxes := make([]*natsInbox, len(conns))
	for i, c := range conns {
		inboxes[i] = &natsInbox{conn: c, prefix: c.NewInbox() + ".", ask: ask, take: take}
		if err := inboxes[i].open(j.Shape.InFlight); err != nil {
			closeAll()
			return nil, err
		}
	}
	return &part{close: closeAll, run: func(l *load) error {
		for i, slots := range l.split(len(conns)) {
			inboxes[i].run(l, slots)
		}
		return l.wait()
	}}, nil
}

// A natsInbox is one connection of such a caller.
type natsInbox struct {
	conn    *nats.Conn
	prefix  string
	replyTo []string // by slot
	ask     func(in *natsInbox, i int, s *slot) error
	take    func(*slot, []byte) (bool, error)
	current atomic.Pointer[natsInboxLoad]
}

type natsInboxLoad struct {
	load  *load
	slots []*slot
}

func (in *natsInbox) open(inFlight int) error {
	for i := range inFlight {
		in.replyTo = append(in.replyTo, in.prefix+strconv.Itoa(i))
	}
	if _, err := in.conn.Subscribe(in.prefix+"*", in.arrived); err != nil {
		return err
	}
	return in.conn.Flush()
}

func (in *natsInbox) publish(i int, request []byte) error {
	return in.conn.PublishRequest(natsSubject, in.replyTo[i], request)
}

// run makes the first request of each slot.
func (in *natsInbox) run(l *load, slots []*slot) {
	in.current.Store(&natsInboxLoad{l, slots})
	for i, s := range slots {
		if err := in.ask(in, i, s); err != nil {
			l.fail(err)
		}
	}
}

// arrived takes an answer, and makes the slot's next request when it was the last one.
func (in *natsInbox) arrived(m *nats.Msg) {
	current := in.current.Load()
	i, err := strconv.Atoi(m.Subject[len(in.prefix):])
	if err != nil || i >= len(current.slots) {
		current.load.fail(fmt.Errorf("an answer to %q, which nobody asked", m.Subject))
		return
	}
	s := current.slots[i]
	done, err := in.take(s, m.Data)
	if err == nil && done && s.finish() {
		err = in.ask(in, i, s)
	}
	if err != nil {
		current.load.fail(err)
	}
}
