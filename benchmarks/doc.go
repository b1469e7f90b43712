// Command benchmarks does the same work on replyq and on its peers, side by side, and prints what it costs.
//
// Each system has three processes of its own: a server, a worker and a caller, all on loopback and all of them this very
// binary, started again with a role. A [shape] (how much is in flight, on how many connections, how large) is measured
// for all systems of a [benchCase] in turn, round after round, so that whatever else the machine does meets all of them
// alike; figures are medians over the rounds, and ratios are medians of the ratios within a round, with an interval that
// holds the true median with a confidence of 95 % whatever the distribution.
//
// Every answer is compared, byte for byte, with what it has to be, and the worker's count with the caller's: a lost, a
// wrong or a repeated reply fails the run. In a closed load a request follows the answer to the one before; in an open
// one requests come at a fixed rate, and their latency counts from when each was due.
//
// A process ends when its standard input does, and in any case after a time: nothing stays behind.
//
// # Where things are
//
// One case per file, case_*.go: what is done, with which systems, in which shapes, and what is compared. One system per
// file, named after it, as functions that start its roles; replyq has a file for each thing it does. A load is in
// load.go and pace.go, a child process in role.go, its parent's side of it in process.go, the rounds in trio.go and
// rounds.go. To add a system, write its roles and a line in the case; to add a shape, a line in the case.
package main
