package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/replyq/replyq/internal/freeport"
)

// For servers that are other programs: a process group of their own, and what it uses.

// ownGroup has a command started as the leader of a group.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(leader int) { _ = syscall.Kill(-leader, syscall.SIGKILL) } // it may have ended

// groupUsage is the CPU that the processes of a group have used, and their memory, as far as the system tells.
func groupUsage(leader int) (cpu time.Duration, m memory) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, m // unreachable: the pattern is a good one
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := bytes.Cut(b, []byte(") ")) // behind the command's name
		fields := strings.Fields(string(rest))
		// From here, counted from 0: state, parent, group, …, 11: user time, 12: system time, 21: resident pages.
		if len(fields) < 22 || fields[2] != strconv.Itoa(leader) {
			continue
		}
		for _, ticks := range fields[11:13] {
			n, _ := strconv.ParseInt(ticks, 10, 64) // 0 if it is none
			cpu += time.Duration(n) * (time.Second / 100)
		}
		pages, _ := strconv.ParseInt(fields[21], 10, 64) // likewise
		m.Resident += pages * int64(os.Getpagesize())
	}
	return cpu, m
}

// freePorts finds ports on loopback that nobody uses, and keeps them until release.
func freePorts(n int) (ports []string, release func(), err error) {
	var all []func()
	release = func() {
		for _, one := range all {
			one()
		}
	}
	for range n {
		addr, one, err := freeport.Reserve()
		if err != nil {
			release()
			return nil, nil, err
		}
		all = append(all, one)
		_, port, _ := net.SplitHostPort(addr) // it is one
		ports = append(ports, port)
	}
	return ports, release, nil
}
