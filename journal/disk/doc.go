// Package disk keeps the journals of all shards in one directory, on Pebble, a log-structured store.
//
// [Open] makes or opens a [Store]; [Store.Journal] gives a shard's [journal.Journal]. A batch is kept when the file system
// says that it is on the disk (fsync); commits of several shards that wait at the same time share one fsync. It then
// survives the end of the process, of the system and of power. With [Options.FsyncInterval] a batch is kept as soon as
// the system has it: the end of the process loses nothing, the end of power what came within the interval.
//
// What Read yields is as it was appended, in order and without gaps, or it is an error: each batch carries a checksum
// over its shard, position and content. A batch that was not confirmed before a crash is there or is not.
//
// When the disk fails nothing is confirmed any more, [Store.Failed] says so, and the process has to end: what a failed
// fsync has left behind only the next start can tell. The directory holds
//
//	format        the version of this layout, number of the store and of shards
//	handle-keys   the ring of keys that sign handles; edit it to rotate keys
//	log/          the batches, in Pebble's files
//	marks         what has to be there at least; lost batches are noticed by it
//	lock          held by the process that uses the directory
//	moved         says where all of it went, if it did; the store is not opened then
//
// It is as secret as the messages and handles inside, and readable by its owner only.
package disk
