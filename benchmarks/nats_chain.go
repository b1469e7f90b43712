package main

import (
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// A chain over NATS: each worker publishes what it gets to the next one's subject, with the inbox it came with; the last
// one answers.

func natsHop(i int) string {
	if i == 0 {
		return natsSubject
	}
	return "bench.hop." + strconv.Itoa(i)
}

func natsChainWorker(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	var handled atomic.Int64
	for _, c := range conns {
		for hop := range chainLength - 1 {
			err = natsSubscribe(c, natsHop(hop), func(m *nats.Msg) error {
				return c.PublishRequest(natsHop(hop+1), m.Reply, m.Data)
			})
			if err != nil {
				break
			}
		}
		if err == nil {
			err = natsAnswer(c, natsHop(chainLength-1), &handled)
		}
		if err != nil {
			closeAll()
			return nil, err
		}
	}
	return &part{handled: &handled, close: closeAll}, nil
}
