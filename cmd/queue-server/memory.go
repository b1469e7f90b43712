package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// The share of the machine's memory, or of the container's, that is the limit unless --memory-limit says otherwise; and
// the share of the limit at which the collector does all it can. Both in hundredths.
const (
	defaultMemoryShare = 75
	collectorShare     = 90
)

// memoryLimit is the limit that counts: what the flag says, or a share of what there is. It is 0, for none, where that
// cannot be found out.
func (c *serveCmd) memoryLimit(log *slog.Logger, system fs.FS) int64 {
	if c.MemoryLimit > 0 {
		return int64(c.MemoryLimit)
	}
	there := availableMemory(system)
	if there == 0 {
		log.Warn("how much memory there is cannot be found out: nothing is refused for want of it; --memory-limit sets a limit")
	}
	return there / 100 * defaultMemoryShare
}

// guard sets the collector's limit, behind the server's own: what is refused keeps the memory well below it.
func guard(limit int64) {
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit / 100 * collectorShare)
	}
}

// availableMemory is what the control groups of this process allow, or else what the machine has; 0 if neither is known.
// system is the root of the file system.
func availableMemory(system fs.FS) int64 {
	least := int64(math.MaxInt64)
	for _, file := range limitFiles(system) {
		text, err := fs.ReadFile(system, file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
			least = min(least, n) // "max" is no number: no limit
		}
	}
	if n := machineMemory(system); n > 0 {
		least = min(least, n)
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// limitFiles are where a limit may stand: in this process's group and in those around it. Within a container the group
// is the root of what can be seen.
func limitFiles(system fs.FS) (files []string) {
	groups, err := fs.ReadFile(system, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		root, name := "sys/fs/cgroup", "memory.max" // version 2
		if fields[0] != "0" || fields[1] != "" {
			if fields[1] != "memory" {
				continue
			}
			root, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			files = append(files, path.Join(root, group, name))
			if group == "/" {
				break
			}
		}
	}
	return files
}

// machineMemory is MemTotal of /proc/meminfo.
func machineMemory(system fs.FS) int64 {
	text, err := fs.ReadFile(system, "proc/meminfo")
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
