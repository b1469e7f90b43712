package main

import (
	"log/slog"
	"testing"
	"testing/fstest"
)

func TestAvailableMemory(t *testing.T) {
	const meminfo = "MemTotal:       24000000 kB\nMemFree:        1 kB\n"
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for _, test := range []struct {
		name   string
		system fstest.MapFS
		want   int64
	}{
		{"nothing known", fstest.MapFS{}, 0},
		{"machine", fstest.MapFS{"proc/meminfo": file(meminfo)}, 24_000_000 << 10},
		{"container", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("536870912\n"),
		}, 512 << 20},
		{"container without a limit", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n"),
		}, 24_000_000 << 10},
		{"group within one that is smaller", fstest.MapFS{
			"proc/self/cgroup":                           file("0::/a.slice/b.service\n"),
			"sys/fs/cgroup/a.slice/memory.max":           file("1000000"),
			"sys/fs/cgroup/a.slice/b.service/memory.max": file("2000000"),
		}, 1_000_000},
		{"version 1", fstest.MapFS{
			"proc/meminfo":     file(meminfo),
			"proc/self/cgroup": file("5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("1073741824"),
		}, 1 << 30},
		{"version 1 without a limit", fstest.MapFS{
			"proc/meminfo":     file(meminfo),
			"proc/self/cgroup": file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712"),
		}, 24_000_000 << 10},
	} {
		if got := availableMemory(test.system); got != test.want {
			t.Errorf("%s: availableMemory() = %d, want %d", test.name, got, test.want)
		}
	}
	system := fstest.MapFS{"proc/meminfo": file(meminfo)}
	log := slog.New(slog.DiscardHandler)
	if got, want := (&serveCmd{}).memoryLimit(log, system), int64(24_000_000<<10)/100*75; got != want {
		t.Errorf("memoryLimit() = %d, want three quarters, %d", got, want)
	}
	if got := (&serveCmd{MemoryLimit: 1000}).memoryLimit(log, system); got != 1000 {
		t.Errorf("memoryLimit() with --memory-limit=1000 = %d", got)
	}
}
