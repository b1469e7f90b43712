// Command queue-server serves replyq over gRPC.
//
// Exit codes: 0 all went well, 1 it could not be done (the log says why), 2 the command line is wrong, 3 a second signal
// cut the stop short, 5 the disk failed while the server ran, or did not answer when it stopped, 6 the data directory is
// damaged. The health command has codes of its own, which its help lists.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitForced = 3
	// 4 is one of health's.
	exitDisk    = 5
	exitDamaged = 6
)

// cli is the whole command line.
type cli struct {
	Serve     serveCmd     `cmd:"" default:"withargs" help:"Serve until told to stop (the default command)."`
	Check     checkCmd     `cmd:"" help:"Verify a data directory, from end to end. No server may use it meanwhile."`
	Backup    backupCmd    `cmd:"" help:"Copy a data directory, while a server uses it or not."`
	Move      moveCmd      `cmd:"" help:"Move a data directory into NATS, for a service of several replicas."`
	Health    healthCmd    `cmd:"" help:"Ask a server whether it is serving. For container health checks."`
	NewAPIKey newAPIKeyCmd `cmd:"" name:"new-api-key" help:"Make an API key, and its line for --api-keys."`
	NewKey    newKeyCmd    `cmd:"" name:"new-key" help:"Make a line for --key-file: a key that signs handles."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

const description = `A request/reply queue service: messages wait in queues until a consumer settles them, answers come back
through handles that travel inside messages.

Try it, on this machine, without any option:

  queue-server

Settings that are usual in service: everything is kept in a directory, and clients have keys.

  queue-server new-api-key --principal web --append api-keys
  queue-server --listen 0.0.0.0:7420 --data-dir /var/lib/replyq --api-keys api-keys

Every flag of serve can be set by an environment variable, which its help names. SIGTERM and SIGINT stop the server
after what is under way is finished, a second one at once; SIGHUP reads both files of keys again.

Exit codes: 0 all went well, 1 it could not be done, 2 the command line is wrong, 3 a second signal cut the stop short,
5 the disk failed or did not answer (see to it, then start again: nothing that was confirmed is lost), 6 the data directory
is damaged (what the error names: put a backup in its place).`

// streams are where a command writes: results, and everything else.
type streams struct {
	out, err io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// run runs one command line and returns the exit code.
func run(args []string, std streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("queue-server"),
		kong.Description(description),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
	)
	if err != nil {
		fmt.Fprintln(std.err, "queue-server:", err) // unreachable: the command line's description is wrong
		return exitFailed
	}
	ctx, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
		fmt.Fprintf(std.err, "queue-server: %s (see queue-server --help)\n", strings.TrimPrefix(err.Error(), "kong: "))
		return exitUsage
	}
	code := exitOK
	ctx.Bind(std, &code)
	if err := ctx.Run(); err != nil {
		fmt.Fprintln(std.err, "queue-server:", err)
		if code == exitOK {
			code = exitFailed
		}
	}
	return code
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, version)
	return err
}
