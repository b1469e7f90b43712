// Package replica makes a process one of several that serve together over one cluster journal. One of them, the owner, has
// all shards; the others relay to it and are ready to take over.
//
// Who may write is decided by the last fence in each shard's own log, in package journal/cluster, and by nothing else. What
// is here decides who shall write, and who may still speak of what it has read. There is one record in the cluster's
// key-value bucket, the claim, which names the owner. It is replaced only by who has read it (compare and set). The owner
// renews it several times a second, and has a lease from the moment before it sent the last renewal that was kept. Another
// replica replaces it when it has not changed for longer than a lease lasts, by its own monotonic clock, which begins when
// it sees the claim: later than the owner's. So clocks need not agree, only run at about the same speed: a replica's may be a
// third slower than another's.
package replica
