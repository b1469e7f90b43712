package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/replyq/replyq/client"
	"github.com/replyq/replyq/internal/testbed"
)

// TestMain lets scripts run this test binary as queuectl.
func TestMain(m *testing.M) {
	testscript.Main(goleakMain{m}, map[string]func(){"queuectl": main})
}

// goleakMain runs the tests, and then looks for goroutines that are left.
type goleakMain struct{ m *testing.M }

func (g goleakMain) Run() int {
	code := g.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScript runs the scripts, each with a server of its own. Besides testscript's commands they have:
//
//	code N COMMAND…      runs a command, which must exit with the code N
//	get VAR TYPE FIELD   takes a field of the last JSON object of that type from standard output into a variable
//	until QUEUE FIELD N  waits until a field of the queue's statistics, as in queues --json, is N
//	unserved             has the server be one of several replicas, of which none serves
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			bed, err := testbed.Start()
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := bed.Close(); err != nil {
					t.Errorf("Bed.Close() = %v", err)
				}
			})
			env.Setenv("REPLYQ_ADDR", bed.Addr)
			// The race detector would have each queuectl wait a second before it exits.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     codeCmd,
			"get":      getCmd,
			"until":    untilCmd,
			"unserved": unservedCmd,
		},
		RequireExplicitExec: true,
	})
}

func codeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("%s exited with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func getCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: get VAR TYPE FIELD")
	}
	found := ""
	for text := range strings.Lines(ts.ReadFile("stdout")) {
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			ts.Fatalf("standard output is no JSON: %v: %s", err, text)
		}
		if object["type"] == args[1] && object[args[2]] != nil {
			found = fmt.Sprint(object[args[2]])
		}
	}
	if found == "" {
		ts.Fatalf("no %s with a field %s", args[1], args[2])
	}
	ts.Setenv(args[0], found)
}

func unservedCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: unserved")
	}
	bed, err := testbed.Start(testbed.Relayed())
	ts.Check(err)
	ts.Defer(func() { ts.Check(bed.Close()) })
	bed.Server.Relay("") // it knows nobody
	ts.Setenv("REPLYQ_ADDR", bed.Addr)
}

// untilPatience is how long a script waits for a queue.
const untilPatience = 10 * time.Second

func untilCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: until QUEUE FIELD N")
	}
	c, err := client.New(ts.Getenv("REPLYQ_ADDR"))
	ts.Check(err)
	defer func() { ts.Check(c.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), untilPatience)
	defer cancel()
	last := ""
	for ctx.Err() == nil {
		if queue, err := c.Queue(ctx, args[0]); err == nil {
			text, err := json.Marshal(newQueueRecord(queue))
			ts.Check(err)
			var fields map[string]any
			ts.Check(json.Unmarshal(text, &fields))
			if last = fmt.Sprint(fields[args[1]]); last == args[2] {
				return
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	ts.Fatalf("%s of queue %s is %q, want %s", args[1], args[0], last, args[2])
}
