package broker

import "github.com/replyq/replyq/broker/factpb"

// References between entities, as the state has them and as facts have them.

func refOf(r *factpb.PipeRef) pipeRef {
	if r == nil {
		return pipeRef{}
	}
	return pipeRef{uint16(r.Shard), r.Slot, r.Nonce}
}

func (r pipeRef) fact() *factpb.PipeRef {
	return &factpb.PipeRef{Shard: uint32(r.shard), Slot: r.slot, Nonce: r.nonce}
}

func carrierOf(c *factpb.CarrierRef) carrierRef {
	if c == nil {
		return carrierRef{}
	}
	return carrierRef{c.Reply, uint16(c.Shard), c.Slot, c.Number}
}

func (c carrierRef) fact() *factpb.CarrierRef {
	return &factpb.CarrierRef{Reply: c.reply, Shard: uint32(c.shard), Slot: c.slot, Number: c.number}
}

func handlesOf(hs []*factpb.CarriedHandle) []carriedHandle {
	if len(hs) == 0 {
		return nil
	}
	out := make([]carriedHandle, len(hs))
	for i, h := range hs {
		out[i] = carriedHandle{h.Name, refOf(h.Pipe), h.Receive, h.Ended, h.Untracked, h.Number}
	}
	return out
}

func handleFacts(hs []carriedHandle) []*factpb.CarriedHandle {
	if len(hs) == 0 {
		return nil
	}
	out := make([]*factpb.CarriedHandle, len(hs))
	for i, h := range hs {
		out[i] = &factpb.CarriedHandle{Name: h.name, Pipe: h.pipe.fact(), Receive: h.receive, Ended: h.ended, Untracked: h.untracked, Number: h.number}
	}
	return out
}
