package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"

	"github.com/replyq/replyq/broker"
	"github.com/replyq/replyq/handles"
)

// key makes the broker's key of a converted request, when it is complete; nil if it has none. A digest of the content is
// kept and compared, not the content: payload, content type, reply_to, handles, and whether a pipe is opened.
func key(req enqueueRequest, e *broker.Enqueue) *broker.Key {
	if req.GetIdempotencyKey() == "" {
		return nil
	}
	d := digest{sha256.New()}
	d.text(req.GetMessage().GetContentType())
	d.handle(e.ReplyTo)
	named := slices.Clone(e.Cargo.Handles) // they come out of a map: in any order
	slices.SortFunc(named, func(a, b broker.NamedHandle) int { return cmp.Compare(a.Name, b.Name) })
	d.number(uint64(len(named)))
	for i := range named {
		d.text(named[i].Name)
		d.handle(named[i].Handle)
	}
	d.flag(e.Pipe != nil)
	d.Write(req.GetMessage().GetPayload()) // last, and so it needs no length
	k := &broker.Key{Content: d.sum()}
	id := digest{sha256.New()}
	id.text(req.GetIdempotencyKey())
	k.ID = id.sum()
	return k
}

// A digest is fed with fields in such a way that different fields never give the same bytes.
type digest struct{ hash.Hash }

func (d digest) sum() (out [16]byte) {
	copy(out[:], d.Sum(nil))
	return out
}

func (d digest) number(n uint64) { d.Write(binary.BigEndian.AppendUint64(nil, n)) }

func (d digest) text(s string) {
	d.number(uint64(len(s)))
	d.Write([]byte(s))
}

func (d digest) flag(b bool) {
	n := uint64(0)
	if b {
		n = 1
	}
	d.number(n)
}

// handle adds what a handle names: two tokens of one pipe may differ, as keys rotate.
func (d digest) handle(h handles.Handle) {
	d.flag(!h.IsZero())
	if h.IsZero() {
		return
	}
	d.number(uint64(h.Kind()))
	d.number(uint64(h.Store()))
	d.number(uint64(h.Shard()))
	d.number(uint64(h.Slot()))
	d.number(h.Nonce())
}
