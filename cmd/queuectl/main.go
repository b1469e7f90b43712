// Command queuectl uses a replyq service from the shell: it enqueues, calls and consumes, runs a command for each
// message, opens pipes, replies through handles, awaits them, and shows what the server knows.
//
// Results go to standard output, everything else to standard error. The exit codes are the constants below.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

// The exit codes.
const (
	exitOK          = 0
	exitEnded       = 1   // the pipe ended otherwise than OK; the reply reached nobody; the work was cut short; the cluster is not well
	exitUsage       = 2   // the command line is wrong
	exitNoAnswer    = 3   // no server there, or time ran out
	exitRefused     = 4   // the server refused the request
	exitInterrupted = 130 // Ctrl-C or SIGTERM, where that is not the usual way to end
)

// globals are the flags of all commands.
type globals struct {
	Server         string        `default:"127.0.0.1:7420" env:"REPLYQ_ADDR" placeholder:"HOST:PORT" help:"The server (${default})."`
	APIKeyFile     string        `name:"api-key-file" placeholder:"FILE" help:"File with the API key. Default: the key in $REPLYQ_API_KEY, else none."`
	ConnectTimeout time.Duration `default:"3s" placeholder:"TIME" help:"How long to try to reach the server (${default})."`
	JSON           bool          `name:"json" help:"Write JSON for machines: one object a line, errors too."`
	Verbose        bool          `short:"v" help:"Tell what is waited for although standard error is no terminal, and log the connection."`
}

// cli is the whole command line. The example tags are shown by queuectl --help.
type cli struct {
	globals

	Enqueue        enqueueCmd        `cmd:"" help:"Store a message; do not wait for an answer." example:"queuectl enqueue orders '{\"id\": 7}' --content-type application/json"`
	Call           callCmd           `cmd:"" help:"Store a message and print the replies to it as they come." example:"queuectl call reports 'march' --timeout 30s"`
	Consume        consumeCmd        `cmd:"" help:"Print messages: look at them and give them back, ack them, or hold them." example:"queuectl consume orders --ack --max 10"`
	Work           workCmd           `cmd:"" help:"Run a command for each message: payload on its standard input, each line it prints is a reply." usage:"work QUEUE -- CMD…" example:"queuectl work reports --concurrency 4 -- ./make-report --month"`
	Settle         settleCmd         `cmd:"" help:"Settle a delivery by its lease: ack, retry, reject or release it." example:"queuectl settle qh1l_… retry --delay 10s --reason 'no disk'"`
	Extend         extendCmd         `cmd:"" help:"Give a delivery more time, by its lease." example:"queuectl extend qh1l_… 5m"`
	Stop           stopCmd           `cmd:"" help:"Stop a consumer, wherever it runs: no more deliveries, and it ends when all it has is settled." example:"queuectl stop reports-2"`
	Pipe           pipeCmd           `cmd:"" help:"Open a pipe and print both its handles." example:"queuectl pipe --timeout 10m"`
	Reply          replyCmd          `cmd:"" help:"Reply through a send handle; ends the pipe unless --more is given." example:"queuectl reply qh1s_… 'half done' --more"`
	Receive        receiveCmd        `cmd:"" help:"Print the replies of a pipe as they come, by its receive handle." example:"queuectl receive qh1r_… --from 3 --timeout 1m"`
	Cancel         cancelCmd         `cmd:"" help:"End a pipe for all who wait on it, by its receive handle." example:"queuectl cancel qh1r_… 'no longer needed'"`
	Describe       describeCmd       `cmd:"" help:"Tell what a pipe waits for, by either of its handles, or the state of a delivery, by its lease." example:"queuectl describe qh1r_…"`
	Queues         queuesCmd         `cmd:"" help:"List queues and what is in them." example:"queuectl queues reports."`
	Create         createCmd         `cmd:"" help:"Create a queue with a configuration; queues are also made by first use." example:"queuectl create reports --max-length 10000 --overflow drop-oldest"`
	Update         updateCmd         `cmd:"" help:"Change a queue's configuration: what is given, and nothing else." example:"queuectl update reports --backoff 1s --reset max_length"`
	Pause          pauseCmd          `cmd:"" help:"Stop the deliveries of a queue; enqueueing goes on." example:"queuectl pause reports"`
	Resume         resumeCmd         `cmd:"" help:"Let a paused queue deliver again." example:"queuectl resume reports"`
	Purge          purgeCmd          `cmd:"" help:"Remove the messages that wait in a queue; who awaits their answers gets PURGED." example:"queuectl purge reports --state dead"`
	Delete         deleteCmd         `cmd:"" help:"Delete a queue, if it is empty or --force is given; who awaits an answer gets QUEUE_DELETED." example:"queuectl delete reports --force"`
	Messages       messagesCmd       `cmd:"" help:"Look at the messages of a queue without touching them; handles show as fingerprints." example:"queuectl messages reports --state dead --max 10"`
	DeleteMessages deleteMessagesCmd `cmd:"" help:"Remove single messages, in whichever state." example:"queuectl delete-messages reports 3c9k…"`
	Redrive        redriveCmd        `cmd:"" help:"Put dead messages back, with their failures set to 0." example:"queuectl redrive reports --to reports.again"`
	End            endCmd            `cmd:"" help:"Revoke a pipe: it ends REVOKED for all who wait on it." example:"queuectl end qh1s_… 'stopped by operations'"`
	Watch          watchCmd          `cmd:"" help:"Show the figures of queues as they change." example:"queuectl watch reports. --interval 5s"`
	Stats          statsCmd          `cmd:"" help:"Show what the server uses, and what its journal does." example:"queuectl stats --json"`
	Cluster        clusterCmd        `cmd:"" help:"Show how a service of several replicas is: replicas, shards, NATS, and what is wrong." example:"queuectl cluster --server 10.0.0.5:7420"`
	Info           infoCmd           `cmd:"" help:"Show the server's version, durability and limits, and who you are to it." example:"queuectl info --server 10.0.0.5:7420"`
	Version        versionCmd        `cmd:"" help:"Print the version of queuectl." example:"queuectl version"`
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run runs one command line and returns the exit code.
func run(args []string, std streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("queuectl"),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}),
	)
	if err != nil {
		fmt.Fprintln(std.err, "queuectl:", err) // unreachable: the command line's description is wrong
		return exitUsage
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	a := &app{globals: c.globals, std: std, ctx: context.Background()}
	if err != nil {
		return a.fail(usageError(strings.TrimPrefix(err.Error(), "kong: ")), usageHint(err))
	}
	err = parsed.Run(a)
	a.close()
	if err != nil {
		return a.fail(err, a.hint(err))
	}
	return exitOK
}

// usageHint says where to read on.
func usageHint(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return "queuectl " + node.Name + " --help"
		}
	}
	return "queuectl --help"
}

type versionCmd struct{}

// Help is shown by version --help.
func (versionCmd) Help() string { return jsonHelp("version") }

// Run prints the version.
func (versionCmd) Run(a *app) error {
	if a.JSON {
		a.emit(map[string]string{"type": "version", "version": version})
		return nil
	}
	a.print(version + "\n")
	return nil
}
