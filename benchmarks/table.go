package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// writeTable prints the records of one shape, and how they compare.
func writeTable(w io.Writer, c *benchCase, sh shape, all []record) error {
	fmt.Fprintf(w, "\n%v; medians of %s\n", sh, plural(all[0].Runs, "round"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "system\t%s/s\tp50 µs\tp99 µs\tCPU µs\tserver\tworker\tcaller\tserver MB\t\n", c.Unit)
	for i := range all {
		r := &all[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t\n", r.System, decimals(r.PerSecond), decimals(r.P50),
			decimals(r.P99), r.CPU, r.ServerCPU, r.WorkerCPU, r.CallerCPU, float64(r.Resident)/1e6)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := writeRatios(w, c, all); err != nil {
		return err
	}
	if c.remark != nil {
		if text := c.remark(all); text != "" {
			fmt.Fprintln(w, text)
		}
	}
	_, err := fmt.Fprintf(w, "other programs used %.1f CPUs meanwhile\n", all[0].Others)
	return err
}

// writeRatios prints the ratios of records to those of their case that they are compared with. Of answers per second
// more is better, of the rest less is.
func writeRatios(w io.Writer, c *benchCase, all []record) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	heading := false
	for i := range all {
		r := &all[i]
		for _, base := range c.Systems {
			v, ok := r.Ratios[c.Name+"/"+base.label()]
			if !ok {
				continue
			}
			if !heading {
				fmt.Fprintf(t, "ratios of %s\t%s/s\tp50\tp99\tCPU\t\n", plural(v.Pairs, "pair"), c.Unit)
				heading = true
			}
			fmt.Fprintf(t, "%s : %s\t%s\t%s\t%s\t%.2f\t\n", r.System, base.label(),
				withInterval(v.PerSecond, v.PerSecondLow, v.PerSecondHigh),
				withInterval(v.P50, v.P50Low, v.P50High), withInterval(v.P99, v.P99Low, v.P99High), v.CPU)
		}
	}
	return t.Flush()
}

func withInterval(middle, low, high float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", middle, low, high)
}

// decimals prints a figure with three digits or more; 0, which is none, as nothing.
func decimals(v float64) string {
	switch {
	case v == 0:
		return ""
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
