package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream with a replica of the stream on each of three nodes that sync: what is confirmed is on the disks of two at
// least. Callers are connected to the node that leads the stream, which is the shortest way. The stream has no consumer.

func replicatedServer(*job) (*part, error) {
	c, err := startNATSCluster()
	if err != nil {
		return nil, err
	}
	err = c.do(func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: jetstreamName, Subjects: []string{natsSubject}, Storage: jetstream.FileStorage, Replicas: clusterNodes,
		})
		return err
	})
	p := &part{usage: c.usage, close: c.remove}
	p.nodes = func() time.Duration { cpu, _ := c.usage(); return cpu }
	if err == nil {
		p.addr, err = c.leader(jetstreamName)
	}
	if err != nil {
		c.remove()
		return nil, err
	}
	return p, nil
}

// appendCaller has one message stored after the other: a publish and its ack.
func appendCaller(j *job) (*part, error) {
	conns, closeAll, err := natsConns(j)
	if err != nil {
		return nil, err
	}
	streams := make([]jetstream.JetStream, 0, len(conns))
	for _, c := range conns {
		js, err := jetstream.New(c)
		if err != nil {
			closeAll()
			return nil, err
		}
		streams = append(streams, js)
	}
	return &part{close: closeAll, run: func(l *load) error {
		return l.each(func(ctx context.Context, s *slot) error {
			_, err := streams[s.number%len(streams)].PublishMsg(ctx, &nats.Msg{Subject: natsSubject, Data: s.next()})
			return err
		})
	}}, nil
}
