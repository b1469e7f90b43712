package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/replyq/replyq/journal"
	"github.com/replyq/replyq/journal/cluster"
	"github.com/replyq/replyq/journal/disk"
)

type moveCmd struct {
	DataDir string `required:"" env:"REPLYQ_DATA_DIR" placeholder:"DIR" help:"The data directory. No server may use it."`
	natsFlags
}

// Help is shown by move --help.
func (moveCmd) Help() string {
	return "Makes a service in NATS that has all that the directory has: queues, messages, open pipes, and the store's number, so " +
		"that handles given out before are good. It reads every batch with its checksum, writes it, and reads it again from NATS. " +
		"The directory stays as it was, marked as moved: a server does not open it any more. What was interrupted is done " +
		"again from the beginning by the same command; until it is done no replica can use the service."
}

// Validate is called when the command line has been read.
func (c *moveCmd) Validate() error {
	if c.NATSURL == "" {
		return errors.New("--nats-url is needed: where to move the data directory to")
	}
	return c.natsFlags.Validate()
}

// Run moves a directory.
func (c *moveCmd) Run(std streams, code *int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(std.err, nil))
	from, err := disk.Open(c.DataDir, disk.Options{Moving: true, AllowMemory: true, Log: log})
	if err != nil {
		*code = codeOf(err)
		return err
	}
	err = c.move(ctx, std, from, log)
	*code = codeOf(err)
	if err == nil {
		*code = exitOK
	}
	return errors.Join(err, from.Close())
}

func (c *moveCmd) move(ctx context.Context, std streams, from *disk.Store, log *slog.Logger) error {
	options := c.options("move", log)
	options.Number, options.Shards, options.Fill = from.Number(), from.Shards(), true
	to, err := cluster.Open(ctx, options)
	if errors.Is(err, cluster.ErrFilled) {
		return c.before(std, from, err)
	}
	if err != nil {
		return err
	}
	m := &mover{from: from, to: to, progress: newProgress(log, "moving", 0)}
	if space, err := from.Space(); err == nil { // without it, no share is told
		m.progress.of = space.Store
	}
	err = m.run(ctx)
	if err == nil {
		// In this order: at no time can both be served.
		err = from.MarkMoved(c.place())
	}
	if err == nil {
		err = to.Filled(ctx)
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("not moved; the same command begins anew: %w", err)
	}
	fmt.Fprintf(std.out, "moved: store %08x, %d shards, %d batches, %d bytes, to the service %q\n", from.Number(), from.Shards(), m.batches, m.bytes, c.NATSName)
	fmt.Fprintf(std.out, "Give every replica the file of keys that the server had: --key-file, or without one a copy of %s\n", from.Keys())
	fmt.Fprintf(std.out, "and start them with: --nats-url … --nats-name %s --nats-replicas %d, and --cluster-name if the server had one\n",
		c.NATSName, c.NATSReplicas)
	return nil
}

// before is what is said when the directory was moved before.
func (c *moveCmd) before(std streams, from *disk.Store, filled error) error {
	moved, err := from.Moved()
	if err == nil && !moved {
		return fmt.Errorf("%s was moved before, and then used again: %w. Nothing was done: what is in NATS is older. To replace it, "+
			"take its stream away first (nats stream rm REPLYQ_%s)", c.DataDir, filled, c.NATSName)
	}
	if err == nil {
		_, err = fmt.Fprintf(std.out, "%s was moved before, to the service %q: nothing was done\n", c.DataDir, c.NATSName)
	}
	return err
}

// place is what the directory says of where its content is.
func (c *moveCmd) place() string {
	return fmt.Sprintf("NATS, the service %q (stream REPLYQ_%[1]s)", c.NATSName)
}

// A mover copies the journals of a store on disk into one in NATS, which has none yet.
type mover struct {
	from     *disk.Store
	to       *cluster.Store
	progress *progress
	batches  int
	bytes    uint64
}

func (m *mover) run(ctx context.Context) error {
	for shard := range m.from.Shards() {
		if err := m.shard(ctx, shard); err != nil {
			return fmt.Errorf("shard %d: %w", shard, err)
		}
	}
	return nil
}

func (m *mover) shard(ctx context.Context, shard int) error {
	from, err := m.from.Journal(shard)
	if err != nil {
		return err
	}
	to, err := m.to.Take(ctx, shard)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	wrote, err := m.copy(ctx, from, to)
	if err == nil {
		err = verify(ctx, to, wrote)
	}
	return errors.Join(err, from.Close(), to.Close())
}

// joined is how many bytes of batches are put together. One by one they would take a round trip to most of the NATS servers
// each; a journal of the broker says the same however its batches are cut.
const joined = 1 << 20

// copy appends all batches, and returns what they add up to.
func (m *mover) copy(ctx context.Context, from, to journal.Journal) (sum, error) {
	s := newSum()
	var together []byte
	flush := func() error {
		if len(together) == 0 {
			return nil
		}
		_, err := to.Append(ctx, together)
		m.progress.tell(m.bytes)
		together = together[:0]
		return err
	}
	for record, err := range from.Read(ctx, 0) {
		if err == nil && len(together)+len(record.Batch) > joined {
			err = flush()
		}
		if err != nil {
			return s, err
		}
		together = append(together, record.Batch...)
		s.add(record.Batch)
		m.batches++
		m.bytes += uint64(len(record.Batch))
	}
	return s, flush()
}

// verify reads what was written.
func verify(ctx context.Context, to journal.Journal, wrote sum) error {
	read := newSum()
	for record, err := range to.Read(ctx, 0) {
		if err != nil {
			return err
		}
		read.add(record.Batch)
	}
	if !read.equals(wrote) {
		return fmt.Errorf("NATS gives back %d bytes that are not the %d bytes that were written", read.bytes, wrote.bytes)
	}
	return nil
}

// A sum tells batches apart that say different things, however they are cut.
type sum struct {
	hash  hash.Hash
	bytes uint64
}

func newSum() sum { return sum{hash: sha256.New()} }

func (s *sum) add(batch []byte) {
	s.bytes += uint64(len(batch))
	_, _ = s.hash.Write(batch) // never fails
}

func (s *sum) equals(other sum) bool {
	return s.bytes == other.bytes && string(s.hash.Sum(nil)) == string(other.hash.Sum(nil))
}
