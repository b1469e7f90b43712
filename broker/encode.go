package broker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/replyq/replyq/broker/factpb"
)

// appendFact appends a fact to an encoded factpb.Batch. Encoded batches can be joined end to end.
func appendFact(b []byte, f fact) []byte {
	w := wrap(f)
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	n := w.SizeVT()
	b = protowire.AppendVarint(b, uint64(n))
	at := len(b)
	b = slices.Grow(b, n)[:at+n]
	if _, err := w.MarshalToSizedBufferVT(b[at:]); err != nil {
		panic(fmt.Sprintf("broker: encode fact: %v", err)) //nolint:forbidigo // unreachable: the size was measured
	}
	return b
}

// wrap puts a fact into the envelope that says which kind it is.
func wrap(f fact) *factpb.Fact {
	switch f := f.(type) {
	case *factpb.QueueCreated:
		return &factpb.Fact{Kind: &factpb.Fact_QueueCreated{QueueCreated: f}}
	case *factpb.SessionOpened:
		return &factpb.Fact{Kind: &factpb.Fact_SessionOpened{SessionOpened: f}}
	case *factpb.SessionForgotten:
		return &factpb.Fact{Kind: &factpb.Fact_SessionForgotten{SessionForgotten: f}}
	case *factpb.PipeOpened:
		return &factpb.Fact{Kind: &factpb.Fact_PipeOpened{PipeOpened: f}}
	case *factpb.Enqueued:
		return &factpb.Fact{Kind: &factpb.Fact_Enqueued{Enqueued: f}}
	case *factpb.Leased:
		return &factpb.Fact{Kind: &factpb.Fact_Leased{Leased: f}}
	case *factpb.LeaseExtended:
		return &factpb.Fact{Kind: &factpb.Fact_LeaseExtended{LeaseExtended: f}}
	case *factpb.Returned:
		return &factpb.Fact{Kind: &factpb.Fact_Returned{Returned: f}}
	case *factpb.Gone:
		return &factpb.Fact{Kind: &factpb.Fact_Gone{Gone: f}}
	case *factpb.Replied:
		return &factpb.Fact{Kind: &factpb.Fact_Replied{Replied: f}}
	case *factpb.PipeEnded:
		return &factpb.Fact{Kind: &factpb.Fact_PipeEnded{PipeEnded: f}}
	case *factpb.PipeRead:
		return &factpb.Fact{Kind: &factpb.Fact_PipeRead{PipeRead: f}}
	case *factpb.PipeForgotten:
		return &factpb.Fact{Kind: &factpb.Fact_PipeForgotten{PipeForgotten: f}}
	case *factpb.RepliesTrimmed:
		return &factpb.Fact{Kind: &factpb.Fact_RepliesTrimmed{RepliesTrimmed: f}}
	case *factpb.CarrierAdded:
		return &factpb.Fact{Kind: &factpb.Fact_CarrierAdded{CarrierAdded: f}}
	case *factpb.CarrierRemoved:
		return &factpb.Fact{Kind: &factpb.Fact_CarrierRemoved{CarrierRemoved: f}}
	case *factpb.PipeOutside:
		return &factpb.Fact{Kind: &factpb.Fact_PipeOutside{PipeOutside: f}}
	case *factpb.Spliced:
		return &factpb.Fact{Kind: &factpb.Fact_Spliced{Spliced: f}}
	case *factpb.Feeding:
		return &factpb.Fact{Kind: &factpb.Fact_Feeding{Feeding: f}}
	case *factpb.Outcome:
		return &factpb.Fact{Kind: &factpb.Fact_Outcome{Outcome: f}}
	case *factpb.OutboxTrimmed:
		return &factpb.Fact{Kind: &factpb.Fact_OutboxTrimmed{OutboxTrimmed: f}}
	case *factpb.InboxAdvanced:
		return &factpb.Fact{Kind: &factpb.Fact_InboxAdvanced{InboxAdvanced: f}}
	case *factpb.QueueConfigured:
		return &factpb.Fact{Kind: &factpb.Fact_QueueConfigured{QueueConfigured: f}}
	case *factpb.QueueDeleted:
		return &factpb.Fact{Kind: &factpb.Fact_QueueDeleted{QueueDeleted: f}}
	case *factpb.QueueForgotten:
		return &factpb.Fact{Kind: &factpb.Fact_QueueForgotten{QueueForgotten: f}}
	case *factpb.Redriven:
		return &factpb.Fact{Kind: &factpb.Fact_Redriven{Redriven: f}}
	case *factpb.Sent:
		return &factpb.Fact{Kind: &factpb.Fact_Sent{Sent: f}}
	case *factpb.KeyUsed:
		return &factpb.Fact{Kind: &factpb.Fact_KeyUsed{KeyUsed: f}}
	case *factpb.PipeChild:
		return &factpb.Fact{Kind: &factpb.Fact_PipeChild{PipeChild: f}}
	case *factpb.KeysForgotten:
		return &factpb.Fact{Kind: &factpb.Fact_KeysForgotten{KeysForgotten: f}}
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
	case *factpb.Fact_PipeRead:
		return k.PipeRead
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
	case *factpb.Fact_QueueConfigured:
		return k.QueueConfigured
	case *factpb.Fact_QueueDeleted:
		return k.QueueDeleted
	case *factpb.Fact_QueueForgotten:
		return k.QueueForgotten
	case *factpb.Fact_Redriven:
		return k.Redriven
	case *factpb.Fact_Sent:
		return k.Sent
	case *factpb.Fact_KeyUsed:
		return k.KeyUsed
	case *factpb.Fact_PipeChild:
		return k.PipeChild
	case *factpb.Fact_KeysForgotten:
		return k.KeysForgotten
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
