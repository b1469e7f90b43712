package broker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/broker/factpb"
)

// A message of factpb, as generated.
type encoded interface {
	fact
	SizeVT() int
	MarshalToSizedBufferVT(b []byte) (int, error)
}

// appendFact appends a fact to an encoded factpb.Batch. Encoded batches can be joined end to end.
func appendFact(b []byte, f fact) []byte {
	number, e := kindOf(f)
	n := e.SizeVT()
	kind := protowire.SizeTag(number) + protowire.SizeBytes(n)
	b = slices.Grow(b, 1+protowire.SizeBytes(kind))
	b = protowire.AppendTag(b, 1, protowire.BytesType) // Batch.facts
	b = protowire.AppendVarint(b, uint64(kind))
	b = protowire.AppendTag(b, number, protowire.BytesType) // one of Fact.kind
	b = protowire.AppendVarint(b, uint64(n))
	at := len(b)
	b = b[:at+n]
	if _, err := e.MarshalToSizedBufferVT(b[at:]); err != nil {
		panic(fmt.Sprintf("broker: encode fact: %v", err)) //nolint:forbidigo // unreachable: the size was measured
	}
	return b
}

// kindOf tells the number that a fact has in Fact.kind.
func kindOf(f fact) (protowire.Number, encoded) {
	switch f := f.(type) {
	case *factpb.QueueCreated:
		return 1, f
	case *factpb.SessionOpened:
		return 2, f
	case *factpb.SessionForgotten:
		return 3, f
	case *factpb.PipeOpened:
		return 4, f
	case *factpb.Enqueued:
		return 5, f
	case *factpb.Leased:
		return 6, f
	case *factpb.LeaseExtended:
		return 7, f
	case *factpb.Returned:
		return 8, f
	case *factpb.Gone:
		return 9, f
	case *factpb.Replied:
		return 10, f
	case *factpb.PipeEnded:
		return 11, f
	case *factpb.PipeForgotten:
		return 12, f
	case *factpb.RepliesTrimmed:
		return 13, f
	case *factpb.CarrierAdded:
		return 14, f
	case *factpb.CarrierRemoved:
		return 15, f
	case *factpb.PipeOutside:
		return 16, f
	case *factpb.Spliced:
		return 17, f
	case *factpb.Feeding:
		return 18, f
	case *factpb.Outcome:
		return 19, f
	case *factpb.OutboxTrimmed:
		return 20, f
	case *factpb.InboxAdvanced:
		return 21, f
	case *factpb.Sent:
		return 22, f
	case *factpb.PipeRead:
		return 23, f
	case *factpb.QueueConfigured:
		return 24, f
	case *factpb.QueueDeleted:
		return 25, f
	case *factpb.QueueForgotten:
		return 26, f
	case *factpb.Redriven:
		return 27, f
	case *factpb.KeyUsed:
		return 40, f
	case *factpb.KeysForgotten:
		return 41, f
	case *factpb.PipeChild:
		return 42, f
	case *factpb.QueueKept:
		return 50, f
	case *factpb.MessageKept:
		return 51, f
	case *factpb.PipeKept:
		return 52, f
	case *factpb.SessionKept:
		return 53, f
	case *factpb.SettledKept:
		return 54, f
	case *factpb.ShardKept:
		return 55, f
	default:
		panic(fmt.Sprintf("broker: no such fact: %T", f)) //nolint:forbidigo // unreachable: the kinds are those above
	}
}

// unwrap is the opposite of wrap; it returns nil for a fact of a kind that this version does not know.
func unwrap(w *factpb.Fact) fact {
	switch k := w.Kind.(type) {
	case *factpb.Fact_QueueCreated:
		return k.QueueCreated
	case *factpb.Fact_SessionOpened:
		return k.SessionOpened
	case *factpb.Fact_SessionForgotten:
		return k.SessionForgotten
	case *factpb.Fact_PipeOpened:
		return k.PipeOpened
	case *factpb.Fact_Enqueued:
		return k.Enqueued
	case *factpb.Fact_Leased:
		return k.Leased
	case *factpb.Fact_LeaseExtended:
		return k.LeaseExtended
	case *factpb.Fact_Returned:
		return k.Returned
	case *factpb.Fact_Gone:
		return k.Gone
	case *factpb.Fact_Replied:
		return k.Replied
	case *factpb.Fact_PipeEnded:
		return k.PipeEnded
	case *factpb.Fact_PipeForgotten:
		return k.PipeForgotten
	case *factpb.Fact_RepliesTrimmed:
		return k.RepliesTrimmed
	case *factpb.Fact_CarrierAdded:
		return k.CarrierAdded
	case *factpb.Fact_CarrierRemoved:
		return k.CarrierRemoved
	case *factpb.Fact_PipeOutside:
		return k.PipeOutside
	case *factpb.Fact_Spliced:
		return k.Spliced
	case *factpb.Fact_Feeding:
		return k.Feeding
	case *factpb.Fact_Outcome:
		return k.Outcome
	case *factpb.Fact_OutboxTrimmed:
		return k.OutboxTrimmed
	case *factpb.Fact_InboxAdvanced:
		return k.InboxAdvanced
	case *factpb.Fact_Sent:
		return k.Sent
	case *factpb.Fact_PipeRead:
		return k.PipeRead
	case *factpb.Fact_QueueConfigured:
		return k.QueueConfigured
	case *factpb.Fact_QueueDeleted:
		return k.QueueDeleted
	case *factpb.Fact_QueueForgotten:
		return k.QueueForgotten
	case *factpb.Fact_Redriven:
		return k.Redriven
	case *factpb.Fact_KeyUsed:
		return k.KeyUsed
	case *factpb.Fact_KeysForgotten:
		return k.KeysForgotten
	case *factpb.Fact_PipeChild:
		return k.PipeChild
	case *factpb.Fact_QueueKept:
		return k.QueueKept
	case *factpb.Fact_MessageKept:
		return k.MessageKept
	case *factpb.Fact_PipeKept:
		return k.PipeKept
	case *factpb.Fact_SessionKept:
		return k.SessionKept
	case *factpb.Fact_SettledKept:
		return k.SettledKept
	case *factpb.Fact_ShardKept:
		return k.ShardKept
	default:
		return nil
	}
}

// inOrder returns a map's values by rising key, so that what is done to them does not depend on chance.
func inOrder[K cmp.Ordered, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
