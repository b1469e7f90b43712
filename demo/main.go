// Command demo shows what replyq does, on real input: it builds and starts queue-server, starts workers as processes of
// their own, and sends them requests about the Go files of a folder (its argument; default: this repository). It tells
// each step, checks every result against its own count, and leaves nothing behind. `make demo` runs it.
//
// story.go has the steps, in order; roles.go is what the workers do, analyse.go the work itself; process.go starts and
// ends processes; tell.go prints. The workers are this program again, started as "demo role …".
//
// Exit codes: 0 all went as told, 1 something did not, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// timeLimit is for the whole of it, compilation aside.
const timeLimit = time.Minute

func main() {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		os.Exit(playRole(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: demo [FOLDER]")
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := demo(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "\ninterrupted; everything is stopped and removed")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\nDEMO FAILED: %v\n", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, args []string) (err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	folder := root
	if len(args) > 0 {
		if folder, err = filepath.Abs(args[0]); err != nil {
			return err
		}
	}
	temporary, err := os.MkdirTemp("", "replyq-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()

	fmt.Println("replyq demo: a server, workers and askers, each a process of its own")
	fmt.Println()
	fmt.Println("   building queue-server …")
	binary, err := buildServer(ctx, root, temporary)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	cast := new(cast)
	defer func() { err = errors.Join(err, cast.end()) }()
	return tell(ctx, cast, binary, folder)
}
