// Package broker is the heart of replyq: queues, leases, pipes, carriers and timers.
//
// A shard (shard.go) is a state machine: called with the time and an operation it first decides, by reading, and then
// commits facts; apply.go has the only code that changes durable state, live and in replay. What comes out are events for
// clients and things to do for other shards. It has no clock, no randomness, no goroutine and no I/O, so that whole
// histories can be run again.
//
// The shell around it ([Broker], [Session]) has those: one writer at a time per shard, timers, the journal, the way of
// events to sessions, and what goes from shard to shard.
//
// To follow a reply: [Session.Submit] → shard.reply (reply.go) → planReply decides, commitReply commits a Replied fact →
// push (pipe.go) hands it to the readers → handOverLocked (runner.go) puts the event where the reader's [Session.Take]
// finds it.
//
// Without a journal nothing outlives the process. With one, every event waits until the facts before it are kept.
package broker
