package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/replyq/replyq/journal/disk"
)

type checkCmd struct {
	Dir string `arg:"" name:"dir" help:"The data directory."`
}

// Help is shown by check --help.
func (checkCmd) Help() string {
	return "Reads everything and changes nothing: every batch has a checksum, and none may be missing. Exit codes: 0 all is as " +
		"it was written, 1 it could not be checked (a server uses the directory, it has no store), 6 damaged: each damage has a line."
}

// Run verifies a directory.
func (c *checkCmd) Run(std streams, code *int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := newProgress(slog.New(slog.NewTextHandler(std.err, nil)), "checking", 0)
	report, err := disk.Check(ctx, c.Dir, func(read, of uint64) {
		p.of = of
		p.tell(read)
	})
	if err != nil {
		*code = codeOf(err)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%s has no store: %w", c.Dir, err)
		}
		return err
	}
	for _, s := range report.Shards {
		fmt.Fprintf(std.out, "shard %d: batches %d to %d, %d of them as they were written, %d bytes\n",
			s.Shard, s.First, s.Last, s.Batches, s.Bytes)
	}
	for _, d := range report.Damage {
		fmt.Fprintf(std.out, "damage: %v\n", d.Err)
	}
	if n := len(report.Damage); n > 0 {
		*code = exitDamaged
		return fmt.Errorf("%s is damaged in %d places; put a backup in its place, or see what of it can be saved before anything else is done",
			c.Dir, n)
	}
	fmt.Fprintf(std.out, "store %08x: all is as it was written\n", report.Number)
	return nil
}
