package main

import (
	"fmt"
	"slices"
)

func durableEnqueue() *benchCase {
	versus := []string{systemSync, systemFile}
	oneOnly := func(sh shape) bool { return sh.InFlight == 1 }
	several := func(sh shape) bool { return sh.InFlight > 1 }
	return &benchCase{
		Name: "durable-enqueue", Unit: "messages",
		About: "enqueued, and confirmed when it is on the disk; nobody consumes. jetstream-file confirms before it is",
		Systems: []*contestant{
			{System: systemFsync, server: bareServer, caller: bareCaller, only: oneOnly},
			{System: systemReplyq, server: replyqServer, caller: enqueueCaller},
			{System: systemSync, server: jetstreamServer, caller: jetstreamCaller},
			{System: systemFile, server: jetstreamServer, caller: jetstreamCaller},
			{System: systemDisk, server: diskServer, caller: enqueueCaller, versus: append(slices.Clone(versus), systemReplyq)},
			{System: systemDiskWindow, server: diskServer, caller: asyncCaller, versus: versus, only: several},
			{System: systemDiskBatch, server: diskServer, caller: batchCaller, versus: versus, only: several},
		},
		Shapes: func(bool) []shape {
			return []shape{one, {InFlight: 512, Connections: 4, Payload: 128}}
		},
		remark: fsyncRemark,
	}
}

// fsyncRemark says how the latency of one durable message compares with what it is made of.
func fsyncRemark(all []record) string {
	p50 := make(map[string]float64)
	for i := range all {
		p50[all[i].System] = all[i].P50
	}
	memory, fsync, disk := p50[systemReplyq], p50[systemFsync], p50[systemDisk]
	if memory == 0 || fsync == 0 || disk == 0 {
		return ""
	}
	return fmt.Sprintf("p50 of %s : (%s + 1.3 × %s) = %.2f", systemDisk, systemReplyq, systemFsync, disk/(memory+1.3*fsync))
}
