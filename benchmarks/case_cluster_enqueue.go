package main

import (
	"fmt"
	"strings"
)

func clusterEnqueue() *benchCase {
	return &benchCase{
		Name: "cluster-enqueue", Unit: "messages", long: true,
		About: "enqueued, and confirmed when it is on the disks of two of three NATS nodes; nobody consumes. The server is three\n" +
			"nodes and, of replyq, three replicas; callers are connected to the owner, those of JetStream to the stream's leader",
		Systems: []*contestant{
			{System: systemR3, server: replicatedServer, caller: jetstreamCaller},
			{System: systemCluster, server: clusterServer, caller: enqueueCaller, versus: []string{systemR3}},
			{System: systemPipelining, server: clusterServer, caller: asyncCaller, versus: []string{systemR3}},
			{System: systemClustered, server: clusterServer, caller: batchCaller, versus: []string{systemR3}},
		},
		Shapes: func(quick bool) []shape {
			noise := shape{InFlight: 512, Connections: 4, Payload: diskPayload}
			if quick {
				return []shape{noise}
			}
			text := noise
			text.Text = true
			return []shape{noise, text}
		},
		remark: nodesRemark,
	}
}

// nodesRemark says what of the server's CPU the NATS nodes took.
func nodesRemark(all []record) string {
	var parts []string
	for i := range all {
		parts = append(parts, fmt.Sprintf("%s %.1f µs", all[i].System, all[i].NodesCPU))
	}
	return "of the server's CPU the NATS nodes took: " + strings.Join(parts, ", ")
}
