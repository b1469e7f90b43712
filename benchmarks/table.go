package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// writeTable prints the records of one shape. Ratios are to NATS core in its two forms and, for plain calls, to the bare
// echo: of operations per second more is better, of latency less is. In brackets are the quartiles of the rounds.
func writeTable(w io.Writer, s shape, all []record) error {
	fmt.Fprintf(w, "\n%v; medians of %s\n", s, plural(all[0].Runs, "round"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tsystem\tper s\tp50 µs\tp99 µs\tCPU µs\tserver\tworker\tcaller\t"+
		"rate × nats-core\trate × nats-request\tp50 × nats-core\tp50 × nats-request\trate × grpc-echo\t")
	for i := range all {
		r := &all[i]
		core, request := r.Ratios[caseRequestReply+"/"+systemNATS], r.Ratios[caseRequestReply+"/"+systemRequest]
		var echo ratio
		if r.Case == casePlainCall {
			echo = r.Ratios[casePlainCall+"/"+systemGRPCEcho]
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%s\t%s\t%s\t%s\t\n",
			r.Case, r.System, r.PerSecond, r.P50, r.P99, r.CPU, r.ServerCPU, r.WorkerCPU, r.CallerCPU,
			core.rate(), request.rate(), core.half(), request.half(), echo.rate())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "Other programs used %.1f CPUs meanwhile.\n", all[0].Others)
	return err
}

// rate prints the ratio of operations per second, nothing if there is none.
func (r ratio) rate() string {
	if r.PerSecond == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.PerSecond, r.PerSecondLow, r.PerSecondHigh)
}

// half prints the ratio of median latencies.
func (r ratio) half() string {
	if r.P50 == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.P50, r.P50Low, r.P50High)
}
