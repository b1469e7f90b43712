package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/internal/replica"
	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
	"github.com/replyq/replyq/server"
)

var validNode = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`) //nolint:gochecknoglobals // compiled once

// mostNode is what a node's name may have, in bytes.
const mostNode = 128

func (c *serveCmd) validateReplica() error {
	if err := c.natsFlags.Validate(); err != nil {
		return err
	}
	switch {
	case c.NATSURL == "" && (c.Node != "" || c.PeerAddress != ""):
		return errors.New("--node and --peer-address are about --nats-url, which is not set")
	case c.NATSURL == "":
		return nil
	case c.DataDir != "":
		return errors.New("--nats-url keeps everything in NATS, and --data-dir in a directory: choose one")
	case c.KeyFile == "":
		return errors.New("--nats-url needs --key-file: all replicas sign handles with the same keys; queue-server new-key makes one")
	case c.Node != "" && (len(c.Node) > mostNode || !validNode.MatchString(c.Node)):
		return fmt.Errorf("--node is %q: use up to %d of A-Z a-z 0-9 _ - with single dots between", c.Node, mostNode)
	}
	return nil
}

// openReplica makes all parts of a replica.
func (p *process) openReplica() (err error) {
	p.keyFile = p.KeyFile
	if p.keys, err = p.keysIn(p.keyFile); err != nil {
		return err
	}
	if err = p.listen(); err != nil {
		return err
	}
	if p.PeerAddress, err = p.peerAddress(); err != nil {
		return err
	}
	if err = p.name(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p.log.Info("connecting to NATS", slog.String("node", p.Node), slog.String("peer_address", p.PeerAddress))
	options := p.options(p.Node, p.log)
	options.Shards = p.Shards
	if p.cluster, err = cluster.Open(ctx, options); err != nil {
		return err
	}
	warnOfSync(p.log)
	limit := p.memoryLimit(p.log, os.DirFS("/"))
	guard(limit)
	cfg := p.serverConfig()
	cfg.Peers = &server.Peers{Node: p.Node, MemoryLimit: limit}
	cfg.Journal = p.journalFigures
	cfg.Cluster = p.clusterReport
	cfg.Durability = server.OnCluster
	cfg.DurabilityDescription = "cluster: what was confirmed is stored by most of the NATS servers; with sync_interval always it is on their disks as well"
	if p.server, err = server.New(cfg); err != nil {
		return err
	}
	p.announce(p.log, p.listener.Addr(), p.server, p.apiKeys, limit)
	p.replica, err = replica.Join(ctx, replica.Config{
		Store: p.cluster, Node: p.Node, Address: p.PeerAddress, Version: version, Keys: p.keys, Server: p.server, Log: p.log,
		Open: func(journals []journal.Journal, along *broker.Standby, lease func() bool) (*broker.Broker, error) {
			return p.openOver(journals, along, lease, limit)
		},
	})
	return err
}

// warnOfSync tells what replyq's promise depends on and cannot be asked for: NATS tells no client of its sync_interval.
func warnOfSync(log *slog.Logger) {
	log.Warn("NATS does not tell whether it syncs what it confirms: see to sync_interval: always in the jetstream block of each of " +
		"its servers; without it a power cut of most of them at once can lose what was confirmed last")
}

// openOver makes the broker, when this replica has become the owner.
func (p *process) openOver(journals []journal.Journal, along *broker.Standby, lease func() bool, limit int64) (*broker.Broker, error) {
	began := time.Now()
	cfg := p.brokerConfig(limit)
	cfg.Store, cfg.Shards, cfg.Lease, cfg.Standby = p.cluster.Number(), p.cluster.Shards(), lease, along
	cfg.Journal = func(shard uint16) (journal.Journal, error) { return journals[shard], nil }
	cfg.Restoring = tellRestoring(p.log, len(journals), 0)
	b, err := broker.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the broker: %w", err)
	}
	kept := b.Contents()
	p.log.Info("restored", slog.Int("queues", kept.Queues), slog.Int("messages", kept.Messages), slog.Int("pipes", kept.Pipes),
		slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	return b, nil
}

// peerAddress is where others reach this replica.
func (p *process) peerAddress() (string, error) {
	if p.PeerAddress != "" {
		return p.PeerAddress, nil
	}
	host, port, err := net.SplitHostPort(p.listener.Addr().String())
	if err != nil {
		return "", fmt.Errorf("--peer-address is needed: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return p.listener.Addr().String(), nil
	}
	if host, err = os.Hostname(); err != nil {
		return "", fmt.Errorf("--peer-address is needed: %w", err)
	}
	return net.JoinHostPort(host, port), nil
}

// name gives this replica the host's name, if it has none.
func (p *process) name() (err error) {
	if p.Node != "" {
		return nil
	}
	if p.Node, err = os.Hostname(); err != nil {
		return fmt.Errorf("--node is needed: %w", err)
	}
	if len(p.Node) > mostNode || !validNode.MatchString(p.Node) {
		return fmt.Errorf("--node is needed: the host's name is %q", p.Node)
	}
	return nil
}
