// Package modeltest holds the broker against a second, plain description of what it promises: a model of queues,
// messages, leases and pipes in maps and slices, written from the wire contract's comments. Random operations go to both,
// in the virtual time of a bubble; every event that the broker gives out must be one that the model allows, and after
// every step all that can be seen of the broker must be what the model has.
//
// Beside that are histories with real concurrency, checked for linearizability, and a month of virtual time for leases,
// delays and expiries. All of it goes through the broker's exported operations and events, so the broker's inside can
// change without the tests.
//
// A failure prints the flags that repeat it: go test ./broker/modeltest with these.
package modeltest
