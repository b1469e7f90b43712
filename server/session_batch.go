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
func (ss *session) batchOps(
	id uint64, req *queuepb.EnqueueBatchRequest, ops *[]broker.Op,
) (operation, *broker.Error) {
	op := operation{kind: kindEnqueueBatch}
	if id >= 1<<(64-itemBits) {
		return op, refuse(reasonOpIDInvalid, "id", "batches need an operation id below 2^54")
	}
	if err := ss.caller.checkBatch(req); err != nil {
		return op, err
	}
	b, items := ss.caller.batch(req, func(i int) uint64 { return id<<itemBits + uint64(i) })
	if b.left == 0 {
		op.answer = b.response
		return op, nil
	}
	if ss.items.Load() == nil {
		ss.items.Store(ss.srv.broker.Attach(ss.caller.id, broker.SessionOptions{ID: ss.itemsID()}))
		ss.wake() // the sender has to listen to it
	}
	ss.setRare(id, openRare{batch: b})
	*ops = append(*ops, items...)
	return op, nil
}

// itemsID is the id of the broker's session for items of batches.
func (ss *session) itemsID() []byte {
	if len(ss.id) == 0 {
		return nil
	}
	return append(slices.Clone(ss.id), "/items"...)
}
