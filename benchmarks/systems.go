package main

import (
	"fmt"
	"maps"
	"slices"
)

// Cases: what is done. A system has figures in one or several.
const (
	caseRequestReply = "request-reply" // caller to worker and back, through a server
	casePlainCall    = "plain-call"    // the same, with a plain RPC for every step
)

// The systems.
const (
	systemReplyq   = "replyq"
	systemWindow   = "replyq-window"
	systemNATS     = "nats-core"
	systemRequest  = "nats-request"
	systemGRPCEcho = "grpc-echo"
	systemTCPRelay = "tcp-relay"
)

// A contestant is a system at a case. Its starters run in child processes and return when the role is ready.
type contestant struct {
	Case, System string
	server       func(*job) (*part, error)
	worker       func(*job) (*part, error) // nil if the server answers by itself
	caller       func(*job) (*part, error)

	build  string // of replyq: the name of another build, see -versus
	binary string // which runs the roles; empty is this one
}

// name is the contestant on command lines.
func (c *contestant) name() string { return c.Case + "/" + c.System }

// label is the system in tables and records.
func (c *contestant) label() string {
	if c.build == "" {
		return c.System
	}
	return c.System + "@" + c.build
}

// contestants are all there are, in the order of the table.
func contestants() []*contestant {
	return []*contestant{
		{Case: caseRequestReply, System: systemNATS, server: natsServer, worker: natsWorker, caller: natsCaller},
		{Case: caseRequestReply, System: systemRequest, server: natsServer, worker: natsWorker, caller: natsRequestCaller},
		{Case: caseRequestReply, System: systemReplyq, server: replyqServer, worker: replyqWorker, caller: replyqCaller},
		{Case: caseRequestReply, System: systemWindow, server: replyqServer, worker: replyqWorker, caller: replyqWindowCaller},
		{Case: caseRequestReply, System: systemTCPRelay, server: relayServer, worker: relayWorker, caller: relayCaller},
		{Case: casePlainCall, System: systemReplyq, server: replyqServer, worker: plainWorker, caller: plainCaller},
		{Case: casePlainCall, System: systemGRPCEcho, server: echoServer, worker: nil, caller: echoCaller},
	}
}

// withBuilds adds other builds of this binary, which have other versions of replyq in them, behind replyq itself.
func withBuilds(all []*contestant, builds map[string]string) []*contestant {
	var out []*contestant
	for _, c := range all {
		out = append(out, c)
		if c.System != systemReplyq {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(builds)) {
			other := *c
			other.build, other.binary = name, builds[name]
			out = append(out, &other)
		}
	}
	return out
}

func start(j *job) (*part, error) {
	all := contestants()
	i := slices.IndexFunc(all, func(c *contestant) bool { return c.name() == j.System })
	if i < 0 {
		return nil, fmt.Errorf("unknown system %q", j.System)
	}
	c := all[i]
	switch j.Role {
	case roleServer:
		return c.server(j)
	case roleWorker:
		return c.worker(j)
	default:
		return c.caller(j)
	}
}
