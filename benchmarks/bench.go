package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// A bench is one run of the program.
type bench struct {
	*options
	out     io.Writer
	records []record
}

// run runs the cases. One that fails does not stop the others, but the run.
func (b *bench) run() error {
	if err := os.MkdirAll(b.folder, 0o755); err != nil { //nolint:gosec // no secrets
		return err
	}
	b.printf("%s, %d CPUs, GOMAXPROCS %d in every process; server, worker and caller share the machine. In brackets are intervals\n"+
		"that hold the median of the ratios of the pairs with 95 %% confidence; of under six pairs, all ratios.\n",
		runtime.Version(), runtime.NumCPU(), b.procs)
	began := time.Now()
	var failed []error
	ran := false
	for _, c := range cases() {
		if c.long && b.quick || !b.choose(c) {
			continue
		}
		ran = true
		if err := b.runCase(c); err != nil {
			failed = append(failed, err)
			b.printf("%s failed: %v\n", c.Name, err)
		}
		if err := writeRecords(b.folder, b.records); err != nil { // after each, so that nothing is lost
			return err
		}
	}
	if !ran {
		return errors.New("-only leaves nothing to do")
	}
	if len(failed) == 0 {
		b.printf("\nEvery answer was as it had to be, none was lost or repeated.")
	}
	b.printf(" %v, written to %s/latest.json\n", time.Since(began).Round(time.Second), b.folder)
	return errors.Join(failed...)
}

// choose leaves of a case what -only asks for, and reports whether that is anything.
func (b *bench) choose(c *benchCase) bool {
	var chosen []*contestant
	for _, s := range withBuilds(c.Systems, b.builds) {
		if !b.only.MatchString(c.Name + "/" + s.System) {
			continue
		}
		if s.missing != nil {
			if why := s.missing(b.options); why != "" {
				b.printf("%s is left out: %s\n", s.label(), why)
				continue
			}
		}
		chosen = append(chosen, s)
	}
	c.Systems = chosen
	return len(chosen) > 0
}

func (b *bench) runCase(c *benchCase) error {
	b.printf("\n== %s: %s\n", c.Name, c.About)
	if c.run != nil {
		return c.run(b, c)
	}
	for _, sh := range b.shapesOf(c) {
		taking := c.taking(sh)
		if len(taking) == 0 {
			continue
		}
		trios, err := b.measureShape(c, sh, taking)
		b.progress("")
		if err != nil {
			return err
		}
		r := trioRecords(trios, b.procs)
		b.records = append(b.records, r...)
		if err := writeTable(b.out, c, sh, r); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

// progress shows one line on a terminal that the next one replaces.
func (b *bench) progress(line string) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K%s", line)
	}
}
