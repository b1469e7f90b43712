// Package history notes what clients did and saw while something failed, and judges it afterwards: what was accepted must
// have been done, or still be there; what was acked must not come again; who waited must have learnt one end.
//
// A [History] is a list of events, written by many goroutines at once. Each send carries an [ID] in its payload (producer,
// counter, and a digest of the whole), so that loss, order, duplicates and mix-ups show without a model of the server.
// [Check] judges a list of events. The models of a message and of a pipe, for the checker porcupine, are here as well,
// for those who note operations themselves.
package history
