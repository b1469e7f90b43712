package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	quick             bool
	plan              plan
	procs             int
	profile           bool
	folder            string
	only              *regexp.Regexp
	shapes            []shape // instead of the cases' own; nil: those
	payload           int     // instead of the shapes' own; 0: those
	rate              int     // of open loads; 0: closed ones
	workerConnections int
	quiet             float64
	patience          time.Duration
	builds            map[string]string
	waiting           int // of idle-cost
	depth             int // of depth
	churn             int // of disk-churn
	stored            int // of disk-recovery
}

// A plan says how often and how long things are measured.
type plan struct {
	Rounds int
	Slice  time.Duration // of one measurement
	Short  time.Duration // likewise, of shapes that have more rounds than the plan
	Warmup time.Duration // of each system, once per shape
}

// quickPlan takes under a minute, fullPlan under ten.
func quickPlan() plan {
	return plan{Rounds: 3, Slice: 150 * time.Millisecond, Short: 40 * time.Millisecond, Warmup: 100 * time.Millisecond}
}

func fullPlan() plan {
	return plan{Rounds: 5, Slice: 300 * time.Millisecond, Short: 200 * time.Millisecond, Warmup: 300 * time.Millisecond}
}

const usage = `Usage: benchmarks [flags]

Measures replyq and its peers side by side, prints tables, and writes latest.json. Examples:

  benchmarks -quick                                      under a minute
  benchmarks -only '^request-reply/' -shapes 256x4       one case in one shape
  benchmarks -only '^open-loop/' -rate 30000             latency at a fixed rate
  benchmarks -only '^request-reply/replyq$' -profile     CPU and allocation profiles of every process
  benchmarks -only '^depth/' -depth 1000000              a queue of another depth

Flags:
`

// parseOptions reads the command line; help and complaints go to w.
func parseOptions(args []string, w io.Writer) (*options, error) {
	o := &options{builds: make(map[string]string)}
	f := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	f.SetOutput(w)
	f.Usage = func() {
		fmt.Fprint(w, usage)
		f.PrintDefaults()
	}
	f.BoolVar(&o.quick, "quick", false, "take under a minute: fewer shapes, fewer and shorter rounds, smaller queues")
	f.IntVar(&o.procs, "procs", runtime.GOMAXPROCS(0), "GOMAXPROCS of every process")
	rounds := f.Int("rounds", 0, "measure everything so often (default: 3 with -quick, else 5; one in flight: 21)")
	slice := f.Duration("slice", 0, "the time of one measurement (default: 150ms with -quick, else 300ms; one in flight: less)")
	only := f.String("only", "", "run only what matches this regexp of CASE/SYSTEM, e.g. '/(nats-core|replyq)$'")
	shapes := f.String("shapes", "", "measure in these shapes, e.g. 1x1,256x4: requests in flight x connections; with -json behind it, payloads are JSON")
	f.IntVar(&o.payload, "payload", 0, "size of requests and answers in bytes (default: the shapes' own)")
	f.IntVar(&o.rate, "rate", 0, "requests per second of the open loop (default: a low and a high one)")
	f.BoolVar(&o.profile, "profile", false, "write CPU and allocation profiles of every process to the folder of -out")
	f.StringVar(&o.folder, "out", "out", "folder of latest.json and profiles")
	f.IntVar(&o.workerConnections, "worker-connections", 1, "connections of the worker; 0: as many as the caller has")
	f.Float64Var(&o.quiet, "quiet", 0, "repeat a measurement while other programs use more CPUs than this, e.g. 0.2 (default: never)")
	f.DurationVar(&o.patience, "patience", 20*time.Second, "with -quiet, for so long at most")
	f.IntVar(&o.waiting, "waiting", 0, "waiting requests of idle-cost (default: 100000 with -quick, else 1000000)")
	f.IntVar(&o.depth, "depth", 0, "messages in the deep queue of depth (default: 300000 with -quick, else 10000000)")
	f.IntVar(&o.churn, "churn", 0, "messages of disk-churn (default: 100000 with -quick, else 1000000; 10000000 for the whole truth)")
	f.IntVar(&o.stored, "stored", 0, "messages of disk-recovery (default: 100000 with -quick, else 1000000)")
	f.Func("versus", "NAME=BINARY: measure another build of this program as well, as replyq@NAME; may be repeated",
		func(text string) error {
			name, binary, ok := strings.Cut(text, "=")
			if !ok {
				return errors.New("use NAME=BINARY")
			}
			o.builds[name] = binary
			return nil
		})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.setPlan(*rounds, *slice)
	return o, o.check(*only, *shapes)
}

func (o *options) setPlan(rounds int, slice time.Duration) {
	o.plan = fullPlan()
	waiting, depth, disk := 1_000_000, 10_000_000, 1_000_000
	if o.quick {
		o.plan = quickPlan()
		waiting, depth, disk = 100_000, 300_000, 100_000
	}
	if o.waiting == 0 {
		o.waiting = waiting
	}
	if o.depth == 0 {
		o.depth = depth
	}
	if o.churn == 0 {
		o.churn = disk
	}
	if o.stored == 0 {
		o.stored = disk
	}
	if rounds > 0 {
		o.plan.Rounds = rounds
	}
	if slice > 0 {
		o.plan.Slice, o.plan.Short = slice, slice
	}
}

func (o *options) check(only, shapes string) (err error) {
	if o.payload != 0 && o.payload < minPayload {
		return fmt.Errorf("-payload is %d: use at least %d", o.payload, minPayload)
	}
	if o.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if shapes == "" {
		return nil
	}
	for text := range strings.SplitSeq(shapes, ",") {
		var sh shape
		_, err := fmt.Sscanf(text, "%dx%d", &sh.InFlight, &sh.Connections)
		sh.Text = strings.HasSuffix(text, textSuffix)
		if err != nil || sh.InFlight < sh.Connections || sh.Connections < 1 || sh.short() != text {
			return fmt.Errorf("-shapes: %q is not like 256x4 or 256x4%s", text, textSuffix)
		}
		o.shapes = append(o.shapes, sh)
	}
	return nil
}

// shapesOf are the shapes to measure a case in.
func (o *options) shapesOf(c *benchCase) []shape {
	own := c.Shapes(o.quick)
	if o.shapes != nil {
		// They differ in what -shapes names, and are like the case's first one otherwise.
		first := own[0]
		own = nil
		for _, sh := range o.shapes {
			first.InFlight, first.Connections, first.Text, first.Rounds = sh.InFlight, sh.Connections, sh.Text, 0
			if sh.InFlight == 1 {
				first.Rounds = pairs
			}
			own = append(own, first)
		}
	}
	for i := range own {
		if o.payload > 0 {
			own[i] = own[i].withPayload(o.payload)
		}
		if o.rate > 0 && own[i].Rate > 0 {
			own[i].Rate = o.rate
		}
	}
	return own
}

// roundsOf is how often a shape is measured, and for how long.
func (p plan) roundsOf(sh shape) (int, time.Duration) {
	if sh.Rounds > p.Rounds {
		return sh.Rounds, p.Short
	}
	return p.Rounds, p.Slice
}
