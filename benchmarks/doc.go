// Command benchmarks does the same work on replyq and on its peers, side by side, and prints what it costs.
//
// Each system has three processes of its own: a server, a worker and a caller, all on loopback and all of them this very
// binary, started again with a role. A [shape] (how much is in flight, on how many connections, how large) is measured
// for all systems in turn, round after round, so that whatever else the machine does meets all of them alike; figures
// are medians over the rounds, and ratios are medians of the ratios within a round.
//
// Every answer is compared, byte for byte, with what it has to be, and the worker's count with the caller's: a lost, a
// wrong or a repeated reply fails the run.
//
// A process ends when its standard input does, and in any case after a time: nothing stays behind.
//
// To add a system, write a file like nats.go (three role functions) and a line in systems.go; to add a shape, a line in
// plan.go.
package main
