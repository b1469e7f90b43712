package badinput

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/api/queuepb"
)

// scanRows are small on the wire and large in memory, or deep: found before anything is decoded.
func scanRows() []Row {
	elements, deep, unknown := invalid("TOO_MANY_ELEMENTS", ""), invalid("NESTING_TOO_DEEP", ""), invalid("UNKNOWN_FIELDS_TOO_LARGE", "")
	const many = 1 << 19
	message := func(content []byte) []byte { return protowire.AppendBytes([]byte("\n\x01q\x12"), content) }
	group := func(n int) []byte { // of a field that no message has
		open := protowire.AppendTag(nil, 100, protowire.StartGroupType)
		shut := protowire.AppendTag(nil, 100, protowire.EndGroupType)
		return append(bytes.Repeat(open, n), bytes.Repeat(shut, n)...)
	}
	large := protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, 1<<20))
	small := bytes.Repeat(protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1), many/2)
	return []Row{
		raw("524,288 empty items", queuepb.QueueService_EnqueueBatch_FullMethodName, bytes.Repeat([]byte{1<<3 | 2, 0}, many), elements),
		raw("524,288 empty queue names", queuepb.QueueService_Consume_FullMethodName, bytes.Repeat([]byte{1<<3 | 2, 0}, many), elements),
		raw("524,288 empty leases", queuepb.QueueService_ExtendLeases_FullMethodName, bytes.Repeat([]byte{1<<3 | 2, 0}, many), elements),
		raw("524,288 empty headers", queuepb.QueueService_Enqueue_FullMethodName, message(bytes.Repeat([]byte{3<<3 | 2, 0}, many)), elements),
		raw("524,288 empty handles", queuepb.QueueService_Call_FullMethodName, message(bytes.Repeat([]byte{5<<3 | 2, 0}, many)), elements),
		raw("524,288 empty ids, to an administrator's RPC", queuepb.AdminService_DeleteMessages_FullMethodName, bytes.Repeat([]byte{2<<3 | 2, 0}, many), elements),
		raw("524,288 times the same message", queuepb.QueueService_Enqueue_FullMethodName, bytes.Repeat([]byte{2<<3 | 2, 0}, many), elements),
		raw("groups 33 deep", queuepb.QueueService_Enqueue_FullMethodName, group(33), deep),
		raw("groups 10,000 deep", queuepb.QueueService_Enqueue_FullMethodName, group(10_000), deep),
		raw("groups 10,000 deep, to a stream", queuepb.QueueService_Consume_FullMethodName, group(10_000), deep),
		raw("groups 10,000 deep, in a message", queuepb.QueueService_Call_FullMethodName, message(group(10_000)), deep),
		raw("1 MiB of an unknown field", queuepb.QueueService_Enqueue_FullMethodName, large, unknown),
		raw("1 MiB of an unknown field, to a stream", queuepb.QueueService_Call_FullMethodName, message(large), unknown),
		raw("262,144 unknown fields", queuepb.QueueService_OpenPipe_FullMethodName, small, unknown),
	}
}
