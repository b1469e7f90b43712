package main

import (
	"fmt"
	"maps"
	"slices"
)

// A benchCase is one kind of work, which several systems do.
type benchCase struct {
	Name string
	// Unit is what is counted, e.g. "requests".
	Unit string
	// About says below the heading what is done and how the systems differ.
	About   string
	Systems []*contestant
	// Shapes are those that all systems are measured in.
	Shapes func(quick bool) []shape
	// settles says that messages have no answers: they are counted as done when the worker has had them and the server
	// has none left, and they have to be the ones that were enqueued.
	settles bool
	// long says that it is left out of quick runs.
	long bool
	// remark says something about the records of a shape, or nothing; nil: nothing.
	remark func([]record) string
	// run does what is not a matter of shapes and rounds; nil otherwise.
	run func(*bench, *benchCase) error
}

// cases are all there are, in the order in which they run. The latencies come first, while the machine is quiet.
func cases() []*benchCase {
	return []*benchCase{
		requestReply(), plainCall(), openLoop(), enqueueAck(), streamedReplies(), fanOut(), forwardChain(), durableEnqueue(), durableRequest(),
		clusterEnqueue(), clusterCall(),
		idleCost(), depthCost(), diskChurn(), diskRecovery(), clusterTakeover(),
	}
}

// The systems.
const (
	systemReplyq     = "replyq"
	systemWindow     = "replyq-window"
	systemBatch      = "replyq-batch"
	systemSession    = "replyq-session"
	systemNATS       = "nats-core"
	systemPipelined  = "nats-pipelined"
	systemMemory     = "jetstream-memory"
	systemFile       = "jetstream-file"
	systemSync       = "jetstream-sync"
	systemDisk       = "replyq-disk"
	systemDiskWindow = "replyq-disk-window"
	systemDiskBatch  = "replyq-disk-batch"
	systemFsync      = "write-fsync"
	systemCluster    = "replyq-cluster"
	systemPipelining = "replyq-cluster-window"
	systemClustered  = "replyq-cluster-batch"
	systemRelayed    = "replyq-relayed"
	systemOwner      = "replyq-owner"
	systemR3         = "jetstream-r3-sync"
	systemR3Append   = "r3-append"
	systemGRPCEcho   = "grpc-echo"
	systemGRPCStream = "grpc-stream"
	systemGRPCRelay  = "grpc-relay"
	systemTCPRelay   = "tcp-relay"
	systemRabbitMQ   = "rabbitmq"
)

// A starter starts a role in a child process and returns when it is ready.
type starter func(*job) (*part, error)

// A contestant is a system at a case.
type contestant struct {
	System string
	server starter
	worker starter // nil if the server answers by itself
	caller starter
	filler starter // of cases that need one

	// versus are the systems of the case that it is compared with.
	versus []string
	// missing says why the system cannot take part, if it cannot; nil: it can.
	missing func(*options) string
	// joined says that the worker needs a connection for each of the caller's.
	joined bool
	// only says in which shapes it takes part; nil: in all.
	only func(shape) bool

	build  string // of replyq: the name of another build, see -versus
	binary string // which runs the roles; empty is this one
}

// label is the system in tables and records.
func (c *contestant) label() string {
	if c.build == "" {
		return c.System
	}
	return c.System + "@" + c.build
}

// taking returns the systems of the case that take part in a shape.
func (c *benchCase) taking(sh shape) []*contestant {
	var out []*contestant
	for _, s := range c.Systems {
		if s.only == nil || s.only(sh) {
			out = append(out, s)
		}
	}
	return out
}

// withBuilds adds other builds of this binary, which have other versions of replyq in them or beside them, behind
// replyq itself.
func withBuilds(all []*contestant, builds map[string]string) []*contestant {
	var out []*contestant
	for _, c := range all {
		out = append(out, c)
		switch c.System {
		case systemReplyq, systemDisk, systemDiskBatch, systemCluster, systemClustered, systemRelayed, systemOwner:
		default:
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(builds)) {
			other := *c
			other.build, other.binary = name, builds[name]
			other.versus = append(slices.Clone(c.versus), c.System)
			out = append(out, &other)
		}
	}
	return out
}

// starterOf finds what a job asks for.
func starterOf(j *job) (starter, error) {
	if j.Role == roleNode {
		return startNATSNode, nil
	}
	for _, c := range cases() {
		for _, s := range c.Systems {
			if c.Name != j.Case || s.System != j.System {
				continue
			}
			switch j.Role {
			case roleServer:
				return s.server, nil
			case roleWorker:
				return s.worker, nil
			case roleCaller:
				return s.caller, nil
			case roleFiller:
				return s.filler, nil
			}
		}
	}
	return nil, fmt.Errorf("unknown job: %s of %s at %s", j.Role, j.System, j.Case)
}
