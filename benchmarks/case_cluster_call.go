package main

import "fmt"

func clusterCall() *benchCase {
	return &benchCase{
		Name: "cluster-call", Unit: "requests", long: true,
		About: "request-reply with what is confirmed on the disks of two of three NATS nodes: caller and worker connected to the\n" +
			"owner, or both to a replica that owns nothing. r3-append is a bare publish to a stream of three replicas and its ack",
		Systems: []*contestant{
			{System: systemReplyq, server: replyqServer, worker: replyqWorker, caller: replyqCaller},
			{System: systemR3Append, server: replicatedServer, caller: appendCaller},
			{System: systemOwner, server: clusterServer, worker: replyqWorker, caller: replyqCaller},
			{System: systemRelayed, server: relayServer, worker: replyqWorker, caller: replyqCaller, versus: []string{systemOwner}},
		},
		Shapes: func(bool) []shape {
			return []shape{{InFlight: 1, Connections: 1, Payload: diskPayload, Rounds: pairs}}
		},
		remark: appendsRemark,
	}
}

// appendsRemark says how the latency of a call compares with what it is made of.
func appendsRemark(all []record) string {
	p50 := make(map[string]float64)
	for i := range all {
		p50[all[i].System] = all[i].P50
	}
	parts := p50[systemReplyq] + 2*p50[systemR3Append]
	if p50[systemReplyq] == 0 || p50[systemR3Append] == 0 {
		return ""
	}
	return fmt.Sprintf("p50 : (%s + 2 × %s) = %.2f of %s, %.2f of %s", systemReplyq, systemR3Append,
		p50[systemOwner]/parts, systemOwner, p50[systemRelayed]/parts, systemRelayed)
}
