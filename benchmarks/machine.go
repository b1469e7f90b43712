package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What the system tells about time and memory. Where it does not tell, figures are 0.

// cpuTime is the CPU that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineCPU is the CPU that the whole machine has used since it started.
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

// memoryAvailable is what programs can still have, in bytes.
func memoryAvailable() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte("MemAvailable:"))
	fields := strings.Fields(string(rest))
	if len(fields) == 0 {
		return 0
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kilobytes << 10
}

// memory is what a process has, in bytes.
type memory struct {
	Heap     int64 `json:",omitempty"` // objects: what lives, and garbage that is not collected yet
	Resident int64 `json:",omitempty"`
	// Held is, of a settled process, what was resident before it gave free memory back to the system.
	Held int64 `json:",omitempty"`
}

// memoryNow looks without disturbing.
func memoryNow() memory {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return memory{Heap: int64(s[0].Value.Uint64()), Resident: resident()} //nolint:gosec // small
}

// settledMemory collects garbage, and what its finalizers and pools let go of; so the heap is what lives.
func settledMemory() memory {
	for range 3 {
		runtime.GC()
	}
	m := memoryNow()
	m.Held = m.Resident
	debug.FreeOSMemory()
	m.Resident = resident()
	return m
}

func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
