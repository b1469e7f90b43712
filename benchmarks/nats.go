package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// NATS core request/reply: an embedded server, a queue subscription that answers, and a caller.
//
// There are two callers. nats-core is the fastest that was found: an inbox per connection, with a subscription whose
// callback takes an answer and publishes the next request by itself. nats-request is what nats.go offers for the purpose:
// a goroutine per request in flight that calls Request and awaits, as replyq's Call does; all share one inbox per
// connection.

const (
	natsSubject = "bench.echo"
	natsGroup   = "workers"
)

func natsServer(*job) (*part, error) {
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(connectTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("the NATS server is not ready after %v", connectTimeout)
	}
	return &part{addr: s.ClientURL(), close: func() { s.Shutdown(); s.WaitForShutdown() }}, nil
}

// natsConns opens connections; closing them is close.
func natsConns(j *job) (conns []*nats.Conn, closeAll func(), err error) {
	closeAll = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for range j.Shape.Connections {
		c, err := nats.Connect(j.Addr, nats.NoReconnect(), nats.Timeout(connectTimeout))
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, c)
	}
	return conns, closeAll, nil
}

func natsWorker(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	for _, c := range conns {
		var answer []byte // a subscription calls back one message after the other
		_, err := c.QueueSubscribe(natsSubject, natsGroup, func(m *nats.Msg) {
			handled.Add(1) // before the caller can know of it
			var err error
			if answer, err = appendAnswer(answer[:0], m.Data); err == nil {
				err = m.Respond(answer)
			}
			if err != nil {
				panic(err) // the caller then misses an answer, and says so
			}
		})
		if err == nil {
			err = c.Flush()
		}
		if err != nil {
			closeAll()
			return nil, err
		}
	}
	return &part{handled: &handled, close: closeAll}, nil
}

func natsCaller(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	inboxes := make([]*natsInbox, len(conns))
	for i, c := range conns {
		if inboxes[i], err = newNATSInbox(c, j.Shape.InFlight); err != nil {
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

func natsRequestCaller(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	return &part{close: closeAll, run: func(l *load) error {
		return l.each(func(ctx context.Context, s *slot, request []byte) ([]byte, error) {
			m, err := conns[s.number%len(conns)].RequestWithContext(ctx, natsSubject, request)
			if err != nil {
				return nil, err
			}
			return m.Data, nil
		})
	}}, nil
}

// A natsInbox is one connection of the fast caller.
type natsInbox struct {
	conn    *nats.Conn
	prefix  string
	replyTo []string // by slot
	current atomic.Pointer[natsInboxLoad]
}

type natsInboxLoad struct {
	load  *load
	slots []*slot
}

func newNATSInbox(c *nats.Conn, inFlight int) (*natsInbox, error) {
	in := &natsInbox{conn: c, prefix: c.NewInbox() + "."}
	for i := range inFlight {
		in.replyTo = append(in.replyTo, in.prefix+strconv.Itoa(i))
	}
	if _, err := c.Subscribe(in.prefix+"*", in.arrived); err != nil {
		return nil, err
	}
	return in, c.Flush()
}

// run publishes the first request of each slot.
func (in *natsInbox) run(l *load, slots []*slot) {
	in.current.Store(&natsInboxLoad{l, slots})
	for i, s := range slots {
		in.publish(l, i, s)
	}
}

func (in *natsInbox) publish(l *load, i int, s *slot) {
	if err := in.conn.PublishRequest(natsSubject, in.replyTo[i], s.next()); err != nil {
		l.fail(err)
	}
}

// arrived takes an answer and publishes the slot's next request.
func (in *natsInbox) arrived(m *nats.Msg) {
	current := in.current.Load()
	i, err := strconv.Atoi(m.Subject[len(in.prefix):])
	if err != nil || i >= len(current.slots) {
		current.load.fail(fmt.Errorf("an answer to %q, which nobody asked", m.Subject))
		return
	}
	if s := current.slots[i]; s.answer(m.Data) {
		in.publish(current.load, i, s)
	}
}
