package server

import (
	"slices"

	"github.com/replyq/replyq/api/queuepb"
	"github.com/replyq/replyq/broker"
)

// Batches in a session.

// itemBits is how many bits of an item's number in the broker's session tell its place in the batch.
const itemBits = 10

// batchOps makes operations of the items of a batch. They have a broker session of their own, under an id that follows
// from the client's, and numbers that follow from the batch's: so a batch that is repeated after a cut has the outcomes
// that it had before, and its items' numbers stay clear of the client's.
func (ss *session) batchOps(id uint64, req *queuepb.EnqueueBatchRequest) (operation, *broker.Error) {
	op := operation{kind: kindEnqueueBatch}
	if err := checkBatchID(id); err != nil {
		return op, err
	}
	if err := ss.caller.checkBatch(req); err != nil {
		return op, err
	}
	b := newBatch(len(req.Items))
	for i, item := range req.Items {
		ss.itemOps = ss.caller.batchItem(b, i, item, itemOf(id, i), ss.itemOps)
	}
	return ss.batched(id, b), nil
}

// plainBatchOps does so for a batch of plain items, which are decoded one by one.
func (ss *session) plainBatchOps(id uint64, req *plainBatch) (operation, *broker.Error) {
	op := operation{kind: kindEnqueueBatch}
	if err := checkBatchID(id); err != nil {
		return op, err
	}
	if err := checkBatchItems(req.items); err != nil {
		return op, err
	}
	b := newBatch(req.items)
	rest := req.raw
	for i := range req.items {
		var item *queuepb.EnqueueRequest
		item, rest = ss.decoder.nextItem(rest)
		ss.itemOps = ss.caller.batchItem(b, i, item, itemOf(id, i), ss.itemOps)
	}
	return ss.batched(id, b), nil
}

func checkBatchID(id uint64) *broker.Error {
	if id >= 1<<(64-itemBits) {
		return refuse(reasonOpIDInvalid, "id", "batches need an operation id below 2^54")
	}
	return nil
}

// itemOf is the number of an item in the broker's session for items.
func itemOf(id uint64, i int) uint64 { return id<<itemBits + uint64(i) } //nolint:gosec // not negative

// batched sees to it that a batch is answered.
func (ss *session) batched(id uint64, b *batch) operation {
	op := operation{kind: kindEnqueueBatch}
	if b.left == 0 {
		op.answer = b
		return op
	}
	if ss.items.Load() == nil {
		ss.items.Store(ss.caller.tenure.broker.Attach(ss.caller.id, broker.SessionOptions{ID: ss.itemsID()}))
		ss.wake() // the sender has to listen to it
	}
	ss.setRare(id, openRare{batch: b})
	return op
}

// itemsID is the id of the broker's session for items of batches.
func (ss *session) itemsID() []byte {
	if len(ss.id) == 0 {
		return nil
	}
	return append(slices.Clone(ss.id), "/items"...)
}
