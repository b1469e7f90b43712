package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
	"github.com/replyq/replyq/internal/replica"
	"github.com/replyq/replyq/journal/cluster"
	"github.com/replyq/replyq/journal/disk"
	"github.com/replyq/replyq/server"
)

// A process is a running server with all its parts, in the order in which they are made.
type process struct {
	*serveCmd
	log      *slog.Logger
	apiKeys  *server.APIKeys
	store    *disk.Store      // nil without --data-dir
	cluster  *cluster.Store   // nil without --nats-url
	replica  *replica.Replica // likewise
	keyFile  string           // empty if the keys are in no file
	keys     *handles.KeyRing
	broker   *broker.Broker // nil with --nats-url
	server   *server.Server
	listener net.Listener
	space    *spaceWatch // nil without --data-dir
	backups  *backups    // likewise
}

// serve is Run with the signals passed in.
func (c *serveCmd) serve(std streams, signals <-chan os.Signal, code *int) error {
	p := &process{serveCmd: c, log: c.logger(std)}
	if err := p.open(); err != nil {
		*code = codeOf(err)
		return errors.Join(err, p.close())
	}
	return p.run(signals, code)
}

// open makes all parts. What it has made when it fails is left to close.
func (p *process) open() (err error) {
	if p.apiKeys, err = p.readAPIKeys(); err != nil {
		return err
	}
	if p.NATSURL != "" {
		return p.openReplica()
	}
	if p.store, err = p.openStore(p.log); err != nil {
		return err
	}
	p.keyFile = p.KeyFile
	if p.store != nil && p.keyFile == "" {
		p.keyFile = p.store.Keys()
	}
	if p.keys, err = p.keysIn(p.keyFile); err != nil {
		return err
	}
	limit := p.memoryLimit(p.log, os.DirFS("/"))
	guard(limit)
	if err = p.openBroker(limit); err != nil {
		return err
	}
	// Nobody is let in before all is there: whoever comes earlier is told by the system that nobody listens.
	if err = p.listen(); err != nil {
		return err
	}
	cfg := p.serverConfig()
	cfg.Broker = p.broker
	var space *spaceWatch
	if p.store != nil {
		space = newSpaceWatch(p.store, uint64(p.MinFreeSpace), p.log)
		cfg.Journal = space.figures
		p.durability(&cfg)
	}
	if p.server, err = server.New(cfg); err != nil {
		return err
	}
	if p.store != nil {
		space.start(p.broker, p.server)
		p.space = space
		p.backups = takeBackups(p.store, p.DataDir, p.log)
	}
	p.announce(p.log, p.listener.Addr(), p.server, p.apiKeys, limit)
	return nil
}

func (p *process) listen() (err error) {
	if p.listener, err = net.Listen("tcp", p.Listen); err != nil {
		return fmt.Errorf("listen on %s: %w (is another server running? --listen takes another address)", p.Listen, err)
	}
	return nil
}

// serverConfig is what a server has, with or without other replicas.
func (p *process) serverConfig() server.Config {
	return server.Config{
		Keys: p.keys, APIKeys: p.apiKeys, Logger: p.log, Version: version,
		MaxPayload: int(p.MaxPayload), NoReflection: p.NoReflection,
		MaxConnections: p.MaxConnections, MaxConnectionsPerAddress: p.MaxConnectionsPerAddress,
	}
}

// brokerConfig is likewise.
func (p *process) brokerConfig(limit int64) broker.Config {
	return broker.Config{
		Logger: p.log, NoAutoCreate: p.NoAutoCreate, MemoryLimit: limit, Shards: p.Shards,
		Quota: broker.Quota{Bytes: int64(p.TenantBytes), Pipes: p.TenantPipes, Sessions: p.TenantSessions},
	}
}

// openBroker makes the broker, and restores what the store has.
func (p *process) openBroker(limit int64) error {
	cfg := p.brokerConfig(limit)
	began := time.Now()
	if p.store != nil {
		p.log.Info("opening the data directory; the server listens when all is restored", slog.String("directory", p.DataDir))
		keepIn(p.store, p.log, &cfg)
	}
	var err error
	if p.broker, err = broker.Open(cfg); err != nil {
		return fmt.Errorf("open the broker: %w", err)
	}
	if p.store != nil {
		kept := p.broker.Contents()
		p.log.Info("restored", slog.Int("queues", kept.Queues), slog.Int("messages", kept.Messages), slog.Int("pipes", kept.Pipes),
			slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	}
	return nil
}

// run serves until a signal or a failure.
func (p *process) run(signals <-chan os.Signal, code *int) error {
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(p.listener) }()
	err := p.await(signals, served)
	var failure *diskError
	switch {
	case errors.As(err, &failure):
		*code = exitDisk
		p.log.Error("the disk failed: the server ends, and nothing that was confirmed is lost; see to the disk, then start it again",
			slog.Any("error", failure.err))
		// Nothing in memory may be trusted, and what waits for the disk would wait for ever.
		p.broker.Abandon(failure.err)
		within(failedStop, func() error { p.shutdown(0); return p.close() })
		return err
	case err != nil:
		p.shutdown(0)
	default:
		if forced := p.stop(signals); forced {
			*code = exitForced
			return errors.New("stopped at once by a second signal")
		}
		err = <-served
	}
	if closed := p.close(); closed != nil {
		*code = exitFailed
		if p.store != nil {
			*code = exitDisk
		}
		err = errors.Join(err, closed)
	}
	if err == nil {
		p.log.Info("stopped")
	}
	return err
}

// failedStop is how long a process whose disk has failed takes to tell its clients.
const failedStop = 3 * time.Second

// within waits for f, but not for long.
func within(limit time.Duration, f func() error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f() // what ended the process was reported
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// A diskError says that the process has to end because of its disk.
type diskError struct{ err error }

func (e *diskError) Error() string { return "the disk failed: " + e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// await handles signals until one of them, or a failure, ends the serving.
func (p *process) await(signals <-chan os.Signal, served <-chan error) error {
	var failed, ended <-chan error
	if p.store != nil {
		failed = p.store.Failed()
	}
	if p.broker != nil {
		ended = p.broker.Failed()
	}
	for {
		select {
		case err := <-served:
			if err == nil {
				err = errors.New("the server stopped by itself") // unreachable: only Shutdown makes it return nil
			}
			return err
		case err := <-failed:
			return &diskError{err}
		case err := <-ended:
			return &diskError{err}
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				p.log.Info("stopping", slog.String("signal", sig.String()), slog.Duration("limit", p.DrainTimeout))
				return nil
			}
			p.reload(p.log, p.keyFile, p.keys, p.apiKeys)
		}
	}
}

// stop shuts down; a second signal ends the waiting.
func (p *process) stop(signals <-chan os.Signal) (forced bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.shutdown(p.DrainTimeout)
	}()
	for {
		select {
		case <-done:
			return false
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				p.log.Warn("stopping at once: what is under way is cut", slog.String("signal", sig.String()))
				return true
			}
		}
	}
}

func (p *process) shutdown(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if p.replica != nil && limit > 0 {
		p.replica.Leave(ctx)
	}
	p.server.Shutdown(ctx)
}

// close ends what open has made. The server has been shut down.
func (p *process) close() error {
	var errs []error
	if p.backups != nil {
		p.backups.close()
	}
	if p.space != nil {
		p.space.close()
	}
	if p.listener != nil {
		if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if p.replica != nil {
		errs = append(errs, p.replica.Close())
	}
	if p.cluster != nil {
		errs = append(errs, p.cluster.Close())
	}
	if p.broker != nil {
		errs = append(errs, p.broker.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}
