package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	plan              plan
	procs             int
	profile           bool
	out               string
	only              *regexp.Regexp
	workerConnections int
	quiet             float64
	patience          time.Duration
	builds            map[string]string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == roleFlag {
		if err := runJob(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "benchmarks:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	f := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	quick := f.Bool("quick", false, "take under a minute: fewer and shorter rounds")
	procs := f.Int("procs", runtime.GOMAXPROCS(0), "GOMAXPROCS of every process")
	rounds := f.Int("rounds", 0, "measure everything so often (default: 5 with -quick, else 21)")
	slice := f.Duration("slice", 0, "the time of one measurement (default: 300ms with -quick, else 600ms)")
	only := f.String("only", "", "run only what matches this regexp of CASE/SYSTEM, e.g. '/(nats-core|replyq)$'")
	shapes := f.String("shapes", "", "run only these shapes, e.g. 1x1,256x4: requests in flight x connections")
	payload := f.Int("payload", many.Payload, "size of requests and answers in bytes")
	profiles := f.Bool("profile", false, "write CPU and allocation profiles of every process to the folder of -out")
	out := f.String("out", "out", "folder of latest.json and profiles")
	workers := f.Int("worker-connections", 1, "connections of the worker; 0: as many as the caller has")
	quiet := f.Float64("quiet", 0, "repeat a measurement while other programs use more CPUs than this, e.g. 0.2 (default: never)")
	patience := f.Duration("patience", 20*time.Second, "with -quiet, for so long at most")
	builds := make(map[string]string)
	f.Func("versus", "NAME=BINARY: measure another build of this program as well, as replyq@NAME; may be repeated",
		func(text string) error {
			name, binary, ok := strings.Cut(text, "=")
			if !ok {
				return errors.New("use NAME=BINARY")
			}
			builds[name] = binary
			return nil
		})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o := &options{plan: fullPlan(), procs: *procs, profile: *profiles, out: *out, workerConnections: *workers,
		quiet: *quiet, patience: *patience,
		builds: builds}
	if *quick {
		o.plan = quickPlan()
	}
	if *rounds > 0 {
		o.plan.Rounds = *rounds
	}
	if *slice > 0 {
		o.plan.Slice = *slice
	}
	if *payload < minPayload {
		return nil, fmt.Errorf("-payload is %d: use at least %d", *payload, minPayload)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if *shapes != "" {
		o.plan.Shapes = nil
		for _, text := range strings.Split(*shapes, ",") {
			s := shape{}
			if _, err := fmt.Sscanf(text, "%dx%d", &s.InFlight, &s.Connections); err != nil || s.InFlight < s.Connections || s.Connections < 1 {
				return nil, fmt.Errorf("-shapes: %q is not like 256x4", text)
			}
			o.plan.Shapes = append(o.plan.Shapes, s)
		}
	}
	for i := range o.plan.Shapes {
		o.plan.Shapes[i].Payload = *payload
	}
	return o, nil
}

func run(o *options) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil { //nolint:gosec // no secrets
		return err
	}
	var chosen []*contestant
	for _, c := range withBuilds(contestants(), o.builds) {
		if o.only.MatchString(c.name()) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return errors.New("-only leaves nothing to do")
	}
	fmt.Printf("%s, %d CPUs, GOMAXPROCS %d in every process, rounds of %v; server, worker and caller share the machine\n",
		runtime.Version(), runtime.NumCPU(), o.procs, o.plan.Slice)
	began := time.Now()
	var all []record
	for _, s := range o.plan.Shapes {
		trios, err := measureShape(s, chosen, o, progress)
		progress("")
		if err != nil {
			return err
		}
		r := records(trios, o.procs)
		if err := writeTable(os.Stdout, s, r); err != nil {
			return err
		}
		all = append(all, r...)
	}
	fmt.Printf("\nEvery answer was as it had to be, none was lost or repeated. %v, written to %s/latest.json\n",
		time.Since(began).Round(time.Second), o.out)
	return writeRecords(o.out, all)
}

// progress shows one line on a terminal that the next one replaces.
func progress(line string) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K%s", line)
	}
}
