// Package server is replyq's gRPC face: it serves the contract of api/queue.proto over a [broker.Broker].
//
// [New] makes a [Server] from a [Config]; [Server.Serve] serves on a listener until [Server.Shutdown]. [APIKeys] says who
// callers are.
//
// # What it does
//
// A request takes the same steps on both faces of the contract. Its form is checked and it is turned into a request of
// the broker (caller.operation and the file named after the noun: enqueue.go, reply.go, …); the broker answers with
// events; frame.go turns those into responses. On the plain face one RPC is one operation (operation.go, call.go); in a
// Session they come and go in frames (session.go receives, session_send.go sends).
//
// Rules of form (names, sizes, times, the MAC and tenant of handles) are checked here, once, and nowhere else; rules of
// state are the broker's. All refusals, the server's and the broker's, are [broker.Error] until errors.go makes statuses,
// trailers and Error messages of them; docs/errors.md lists them all.
//
// # What it promises
//
//   - The bytes of a message or reply are encoded when they come in, kept, and written out as they are.
//   - On a plain stream nothing is on its way: one delivery or reply is given when the last Send has returned. In a
//     session, replies need the operation's credit, deliveries a place in max_in_flight, and both the session's byte
//     credit, of which each takes the encoded size of its Result. Without byte credit the sender holds deliveries and
//     replies back, and what follows in their operations; answers to other operations pass them. What is held back is
//     bounded by the operations' own credit.
//   - A session's receiver never waits for its sender. A client that does not read what it gave credit for is cut after
//     10 s, by the watchdog.
//   - The log has a line per call, and never a message, metadata, a handle, or an error's text.
//
// # Goroutines
//
// One for the watchdog, from [New] to Shutdown. Three per session: gRPC's for the handler, one that receives, one that
// sends; the latter two end with the stream's context. One in Shutdown. Shutdown returns when all have ended.
package server
