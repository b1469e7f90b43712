// Package client is the Go client of replyq: it enqueues messages, calls and awaits answers, works on deliveries, and
// opens and passes on pipes.
//
// Start with a [Client] from [New]. [Client.Enqueue] stores a message; [Client.Call] stores one and awaits its replies;
// [Client.Work] runs a [Handler] for each delivery of a queue. A [Future] is a typed value that will come through a
// pipe: it may be awaited by many, in any process that holds its handle.
//
// # What it promises
//
// Every call ends: with a result, with the reason the server gives, with its context, or within 2 s of its pipe's deadline
// if the server cannot be reached to tell (then with [ErrExpired] and an unknown outcome). Errors are [*Error] (a request
// was refused) or [*EndError] (a pipe ended otherwise than OK); test them with [errors.Is] and a [Reason], such as
// [ErrBroken] or [ReasonQueueFull]. An error's Outcome says whether the request may have been carried out after all.
// A refusal that asks for patience (RESOURCE_EXHAUSTED or DRAINING with a time to wait) is waited for and repeated until
// the context ends.
//
// All methods of [Client], [Consumer], [Delivery], [Pipe] and [Future] may be called by many goroutines at once; a
// [Call] belongs to one goroutine at a time, its Cancel aside, and so does a [PendingEnqueue].
//
// # Sessions
//
// All operations travel in sessions: long-lived streams, [WithSessions] many, each on a connection of its own; calls are
// spread over them in turn. An operation is encoded by the goroutine that asks for it and sent together with whatever
// else has gathered since the last frame. With at most two operations under way the caller sends by itself, which saves
// a change of goroutine. While the results of a large frame are handed out nothing is sent: those who get them are about
// to ask for more.
//
// The receipt of a [Client.Call], and the result of what [Client.Work] settles, may come up to a millisecond late: the
// server lets them share a frame with what follows.
//
// The server lends each session a window of unanswered operations; callers wait for room. The client lends the server
// credit: replies per pipe reader, given back as the application takes them, and bytes per session, given back as they
// arrive. So a slow reader of one call holds back that call's replier and nobody else. What lies unread in the client is
// bounded for each call by that credit and by the pipe's capacity, 4 MiB unless its options say otherwise.
//
// # Values of several replies
//
// A value that is large, or is made bit by bit, is written with a [ReplyWriter] ([Delivery.NewWriter],
// [Client.NewWriter]) and read with a [ReplyReader] ([Call.Reader], [Client.NewReader], [Future.Reader]). Each part is a
// reply with its number in the header "part", the last one with "parts" as well, so that what is not whole is not taken
// for whole. When a worker is lost half-way, the reader learns by the number of the attempt that the value begins anew:
// a [*RestartError]. A writer is held up while its pipe is full, and nobody else is.
//
// # What travels with messages
//
// The deadline of a caller's context becomes its pipe's, that of the delivery, and that of the handler's context; a call
// made with that context has it in turn. The W3C trace context of a context ([WithTraceContext]) goes into the headers of
// messages and replies, and from those of a delivery into the handler's context. A [Propagator] of the application's
// takes the place of that: OpenTelemetry's, say.
//
// # What reconnecting does
//
// docs/reconnecting.md has this as a table of all that can be under way, with what a cut does to it, and the tests.
//
// When a stream is lost, the link opens a new one under the same session id, with backoff and jitter, for as long as
// there is something to do. Then, in this order:
//
//   - Operations without an answer are sent again, with their old ids in their old order: the server answers those it
//     had carried out with their first outcome. Those whose caller has left are not. After an absence longer than the
//     server remembers outcomes, those that could happen twice fail with an unknown outcome instead.
//   - Readers of pipes (calls that have their receipt, receives) go on with a Receive from the next sequence. The
//     application sees neither gap nor duplicate.
//   - Consumers open again under their consumer id, with the leases they hold, for what is left of their MaxDeliveries.
//     A server that cannot take these back
//     gets none, and the contexts of the old deliveries end with [ErrLeaseLost].
//
// If the greeting names another boot epoch, the server has lost its memory: readers end with [ErrLost], leases are
// unknown, and unanswered requests, which nobody has confirmed, are sent again as new ones.
//
// When the server announces that it goes away, nothing new is sent to it, and what is under way is finished: on a
// server with a journal until all is answered and no delivery is held, then the link moves on; on one without until it closes
// the stream. With one of several replicas the link does not wait for deliveries whose consumers have a DisconnectGrace, and for
// answers no longer than 3 s: it repeats what has none at the next replica, as after a cut. While
// others are held, it sends that replica all but new consumers, since their handlers may wait for it, and moves on with the
// last of them.
//
// # Goroutines
//
//   - run, one per link: started by the first operation, connects, reads the stream and hands results out; ends when
//     the connection is lost and nothing is to be done, or with Close.
//   - write, one per stream: started and awaited by run.
//   - Work: one for each handler that runs, and one that asks the server to stop while it drains. Work awaits them all.
//
// Timers (the watch of calls, lease extension, repetition after a refusal) run short functions that never block.
// Close stops them all and waits.
//
// # Locks
//
// Three kinds, taken in this order and mostly alone: Future.mu, then reader.mu or Consumer.mu (one call's replies; one
// consumer's deliveries), then link.mu (the operations of a session, its window and its frame to be). Nothing is sent,
// logged or called back under any of them. Results are handed out by run alone, one after the other, so the results of
// an operation need no other order.
//
// # What it leaves out
//
// Nothing of the contract: what has no method here is there in package queuepb, over [Client.Conn].
package client
