package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// machineCPU is the CPU that the whole machine has used since it started, as far as the system tells; else 0.
func machineCPU() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var used time.Duration
	// user nice system idle iowait irq softirq steal; the guests' are in user and nice already.
	for i, text := range strings.Fields(line)[1:] {
		ticks, err := strconv.ParseInt(text, 10, 64)
		if err != nil || i > 7 {
			break
		}
		if i != 3 && i != 4 {
			used += time.Duration(ticks) * (time.Second / 100)
		}
	}
	return used
}
