package main

import (
	"context"
	"fmt"
	"sync/atomic"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// NATS core: an embedded server, and a queue subscription that answers. The caller of nats-core is what nats.go offers for
// the purpose: a goroutine per request in flight that calls Request and awaits. All of them share one inbox per
// connection, and no subscription is made per request.

const (
	natsSubject = "bench.echo"
	natsGroup   = "workers"
)

func natsServer(*job) (*part, error) { return startNATS(&natsserver.Options{}) }

// startNATS starts a server in this process.
func startNATS(o *natsserver.Options) (*part, error) {
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", natsserver.RANDOM_PORT, true, true
	s, err := natsserver.NewServer(o)
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

// natsConns opens connections, and closes them with closeAll.
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
		if err := natsAnswer(c, natsSubject, &handled); err != nil {
			closeAll()
			return nil, err
		}
	}
	return &part{handled: &handled, close: closeAll}, nil
}

// natsAnswer answers what comes under a subject.
func natsAnswer(c *nats.Conn, subject string, handled *atomic.Int64) error {
	var answer []byte // a subscription calls back one message after the other
	return natsSubscribe(c, subject, func(m *nats.Msg) (err error) {
		handled.Add(1) // before the caller can know of it
		if answer, err = appendAnswer(answer[:0], m.Data); err != nil {
			return err
		}
		return m.Respond(answer)
	})
}

// natsSubscribe has a function called with what comes under a subject, as one of a group of workers.
func natsSubscribe(c *nats.Conn, subject string, handle func(*nats.Msg) error) error {
	_, err := c.QueueSubscribe(subject, natsGroup, func(m *nats.Msg) {
		if err := handle(m); err != nil {
			fatal(err)
		}
	})
	if err != nil {
		return err
	}
	return c.Flush()
}

func natsCaller(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	return &part{close: closeAll, run: func(l *load) error {
		return l.calls(func(ctx context.Context, s *slot, request []byte) ([]byte, error) {
			m, err := conns[s.number%len(conns)].RequestWithContext(ctx, natsSubject, request)
			if err != nil {
				return nil, err
			}
			return m.Data, nil
		})
	}}, nil
}
