package broker

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/replyq/replyq/broker/factpb"
)

// someFacts has a fact of each kind, empty.
func someFacts() (all []fact) {
	kinds := (*factpb.Fact)(nil).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	for i := range kinds.Len() {
		w := &factpb.Fact{}
		m := w.ProtoReflect()
		m.Set(kinds.Get(i), m.NewField(kinds.Get(i)))
		all = append(all, unwrap(w))
	}
	return all
}

// TestEveryFactIsKnown: each kind of the contract with the journal comes back as it went.
func TestEveryFactIsKnown(t *testing.T) {
	for i, f := range someFacts() {
		if f == nil {
			t.Errorf("unwrap does not know kind %d", i)
			continue
		}
		var read factpb.Batch
		if err := read.UnmarshalVT(appendFact(nil, f)); err != nil || len(read.Facts) != 1 {
			t.Errorf("%T comes back as %d facts: %v", f, len(read.Facts), err)
		} else if got := unwrap(read.Facts[0]); fmt.Sprintf("%T", got) != fmt.Sprintf("%T", f) {
			t.Errorf("%T comes back as %T", f, got)
		}
	}
}

// FuzzBatch: a batch of a journal is read to facts that are written as they were, or it is no batch.
func FuzzBatch(f *testing.F) {
	var all []byte
	for _, fact := range someFacts() {
		f.Add(appendFact(nil, fact))
		all = appendFact(all, fact)
	}
	f.Add(all)
	f.Add(all[:len(all)/2])
	f.Add([]byte{1<<3 | 2, 0})
	f.Add(protowire.AppendBytes([]byte{1<<3 | 2}, protowire.AppendBytes(protowire.AppendTag(nil, 500, protowire.BytesType), nil)))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, batch []byte) {
		var read factpb.Batch
		if read.UnmarshalVT(batch) != nil {
			return
		}
		var written []byte
		for _, w := range read.Facts {
			fact := unwrap(w)
			if fact == nil {
				if err := new(state).replay(proto1(w)); err == nil {
					t.Fatalf("a fact of no known kind is replayed: %v", w)
				}
				return
			}
			written = appendFact(written, fact)
		}
		var again factpb.Batch
		if err := again.UnmarshalVT(written); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		var twice []byte
		for _, w := range again.Facts {
			twice = appendFact(twice, unwrap(w))
		}
		if len(again.Facts) != len(read.Facts) || !bytes.Equal(written, twice) {
			t.Errorf("read and written, %x becomes %x and then %x", batch, written, twice)
		}
	})
}

// proto1 is a batch of one fact.
func proto1(w *factpb.Fact) []byte {
	b, err := proto.Marshal(&factpb.Batch{Facts: []*factpb.Fact{w}})
	if err != nil {
		return nil // which is an empty batch, and replays
	}
	return b
}
