// Package badinput is the catalogue of requests that must be refused, and of how: code, reason and field. It is data for
// two tests. One in package server sends it to a server in its own process, under the race detector; the one in
// integration_test sends it to the built binary, and looks at what is left behind.
//
// [Rows] is the catalogue, made for a [Fixture] that [Prepare] has set up: the pipes, leases and queues that there must
// be for something to be wrong with them. What ends a session or a connection is not here, but with the tests that look
// at streams and connections.
package badinput
