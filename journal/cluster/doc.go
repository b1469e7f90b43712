// Package cluster keeps journals in NATS JetStream: one stream for a service, a subject per shard, a message per batch.
// What Append has confirmed was stored by a majority of the stream's replicas.
//
// Whose fence is the newest in a shard's log owns the shard. Every message says which sequence its subject has to end
// with, so that what a former owner sends behind another's fence is refused, or passed over by whoever reads.
package cluster
